"""Words for what published weights were trained on, from the tags in their names.

A tag that isn't understood whole is shown as it is: nothing is guessed.
"""

from __future__ import annotations

import re

_LABELS = {
    "in1k": "ImageNet-1k labels",
    "in12k": "ImageNet-12k labels",
    "in21k": "ImageNet-21k labels",
    "in22k": "ImageNet-22k labels",
}
_PAIRS = {
    "cc12m": "CC12M",
    "datacomp1b": "DataComp",
    "datacompxl": "DataComp",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laiona": "LAION-A",
    "metaclip_2pt5b": "MetaCLIP's 2.5 billion",
    "metaclip_400m": "MetaCLIP's 400 million",
    "openai": "OpenAI CLIP's",
    "webli": "WebLI",
    "yfcc15m": "YFCC15M",
}
# What a first stage may be, once the words of recipes are left out.
_FIRST = {
    **_LABELS,
    **{tag: f"{name} image-text pairs" for tag, name in _PAIRS.items()},
    "dino": "no labels (DINO)",
    "fcmae": "no labels (FCMAE)",
    "in1k_ijepa": "no labels (I-JEPA)",
    "in22k_ijepa": "no labels (I-JEPA)",
    "lvd142m": "no labels (LVD-142M)",
    "dinov3_lvd1689m": "no labels (DINOv3)",
    "mae": "no labels (MAE)",
    "mae_in1k": "no labels (MAE)",
    "seer": "no labels (SEER)",
    "swag": "Instagram hashtags (SWAG)",
    "wsl_ig1b": "Instagram hashtags",
}
# Authors, recipes of training with labels, and sizes: they say nothing of the data.
_RECIPE = re.compile(
    r"a[1-3]h?|aa|ah|am|ap|augreg2?|b[12]k|bt|c[1-3]|ch|clip|cvnets|d|d1h?|d2|deit|fb|gluon|goog|"
    r"lamb|lion|ms|msft|mx|nav|naver|nv|orig|paddle|pycls|ra[2-4]?|racm|ram|rewind|rmsp|rsb|rvgg|"
    r"sail|sam|sbb2?|soup|sw|tf|tv2?|v2|[er]?\d{3,4}|\d{3,4}ep|e\d{2}|patch\d+"
)
# Tags of these networks name images there that were seen without their labels.
_OTHERWISE = ("beit", "eva")
_TORCHVISION = {
    "IMAGENET1K_V1": _LABELS["in1k"],
    "IMAGENET1K_V2": _LABELS["in1k"],
    "IMAGENET1K_SWAG_E2E_V1": f"{_FIRST['swag']}, then {_LABELS['in1k']}",
    "IMAGENET1K_SWAG_LINEAR_V1": _FIRST["swag"],  # its classifier alone saw ImageNet's
}


def words_of_tag(tag: str, *, backbone: str) -> str:
    """'augreg_in21k_ft_in1k': 'ImageNet-21k labels, then ImageNet-1k labels'."""
    first, *more = (_meant(stage) for stage in tag.split("_ft_"))
    stages = [_FIRST.get(first)]
    if stages == [None] and all(each in _LABELS for each in first.split("_")):
        stages = [_LABELS[each] for each in first.split("_")]
    for stage in more:
        stages += [_LABELS.get(each) for each in stage.split("_") if each]
    if None in stages or (more and backbone.startswith(_OTHERWISE)):
        return f"tag {tag}"
    return ", then ".join(dict.fromkeys(str(stage) for stage in stages))


def words_of_torchvision(name: str) -> str:
    """'IMAGENET1K_V2': 'ImageNet-1k labels'."""
    return _TORCHVISION.get(name, f"tag {name}")


def _meant(stage: str) -> str:
    return "_".join(each for each in stage.split("_") if not _RECIPE.fullmatch(each))
