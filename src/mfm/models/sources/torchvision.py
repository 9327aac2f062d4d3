"""Weights of torchvision, by their name: ResNet50_Weights.IMAGENET1K_V1."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mfm.errors import UserError
from mfm.models import registry
from mfm.models.origin import Origin
from mfm.models.sources.file import unwrapped
from mfm.models.trained_on import words_of_torchvision
from mfm.settings.messages import closest

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor
    from torchvision.models import WeightsEnum

PREFIX = "torchvision/"
_IN_TIMM = {
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "swin_v2_s": "swinv2_small_window8_256",
    "swin_v2_b": "swinv2_base_window8_256",
}
_CLASS = re.compile(r"^class (\w+_Weights)\(WeightsEnum\):\n((?:(?: .*)?\n)+)", re.M)
_MEMBER = re.compile(r"^    (\w+) = ", re.M)


def claims(weights: str) -> bool:
    """Every name that is no other source's: one of torchvision's, or a mistake that it names."""
    return True


def file(weights: str) -> None:
    """It is fetched before any training, into torch's cache."""
    return None


def check(weights: str) -> None:
    """Raise UserError for a name that torchvision doesn't know, without importing it."""
    name = weights.removeprefix(PREFIX)
    known = _names()
    if name in known:
        return
    # 'resnet50' and 'ResNet50_Weights' mean its first weights.
    first = {each.split("_Weights.")[0].lower(): each for each in reversed(known)}
    meant = first.get(name.split(".")[0].removesuffix("_Weights").lower()) or closest(name, known)
    raise UserError(
        f"'{weights}' is neither a file nor a weight name of torchvision, such as "
        f"ResNet50_Weights.IMAGENET1K_V1{f' (did you mean {meant!r}?)' if meant else ''}"
    )


def read(weights: str) -> dict[str, Tensor]:
    """Downloaded unless it is in the cache."""
    from mfm.files.pickles import load_pickle

    known = _enum(weights)
    path = _cached(known)
    if not path.exists():
        try:
            known.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"weights {weights} could not be downloaded ({error}); fetch {known.url} "
                f"elsewhere and put the file into {path.parent}"
            ) from None
    return unwrapped(load_pickle(path), path)


def checksum(weights: str) -> str:
    """SHA-256 of the cached file; its name carries the first digits, which are checked."""
    path = _cached(_enum(weights))
    with open(path, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    told = re.fullmatch(r".*-([0-9a-f]{8,})", path.stem)
    if told and not found.startswith(told[1]):
        raise UserError(
            f"{path} is damaged or another file: its SHA-256 starts with {found[:8]}, not with "
            f"{told[1]} as its name says; remove it, and it is downloaded again"
        )
    return found


def _names() -> list[str]:
    """All names of weights of classifiers, as torchvision's files spell them."""
    package = importlib.util.find_spec("torchvision")
    assert package is not None
    assert package.origin is not None
    names: list[str] = []
    for file in sorted((Path(package.origin).parent / "models").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        for kind, members in _CLASS.findall(text):
            names += [f"{kind}.{member}" for member in _MEMBER.findall(members)]
    return names


def origin(weights: str) -> Origin:
    """What torchvision says of them: it gives each its own preparation of images."""
    known = _enum(weights)
    prepared = known.transforms()
    mean, std = (tuple(getattr(prepared, key, ())) for key in ("mean", "std"))
    crop = getattr(prepared, "crop_size", None)
    path = _cached(known)
    return Origin(
        backbone=_backbone_of(weights),
        trained_on=words_of_torchvision(known.name),
        normalisation=(mean, std) if len(mean) == len(std) == 3 else None,
        image_size=crop[0] if crop else None,
        file=path if path.exists() else None,
    )


def expected(weights: str) -> dict[str, Tensor] | None:
    """What the file is to hold, without numbers; None for a network that classifies no images."""
    import torchvision

    kind = type(_enum(weights))
    for name in torchvision.models.list_models(module=torchvision.models):
        if torchvision.models.get_model_weights(name) is kind:
            make = partial(torchvision.models.get_model, name)
            return registry.without_numbers(make).state_dict()
    return None


def _backbone_of(weights: str) -> str | None:
    """timm's name of the network, for the families whose parameters are translated."""
    kind = weights.removeprefix(PREFIX).split("_Weights.")[0].lower()
    same = ("resnet", "resnext", "wide_resnet", "convnext")
    return kind if kind.startswith(same) else _IN_TIMM.get(kind)


def _enum(weights: str) -> WeightsEnum:
    import torchvision

    check(weights)
    known: WeightsEnum = torchvision.models.get_weight(weights.removeprefix(PREFIX))
    return known


def _cached(weights: WeightsEnum) -> Path:
    """Where torch.hub keeps a file of torchvision's."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
