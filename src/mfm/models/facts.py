"""Facts of a network that are asked before anything is trained, remembered between calls.

Building a network takes seconds, most of them torch's import, and each start of the workflow asks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mfm.errors import UserError, one_line
from mfm.files.atomic import write_text
from mfm.models.origin import Normalisation
from mfm.models.registry import without_numbers
from mfm.models.settings import Model
from mfm.models.sources import expected_of, origin_of, source_of
from mfm.settings.section import config_hash
from mfm.version import code_version


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the sizes of images, and tasks, are checked against."""

    stride: int  # of the last map
    fixed_size: bool  # made for one image size
    patch: int | None  # side in pixels of what a ViT or Swin embeds
    leaves_patches_out: bool  # a plain ViT, which can see some of the patches alone


def facts_of(model: Model) -> Facts:
    """Raises UserError as `mfm.models.backbones.create_backbone` does."""
    return Facts(**_remembered(f"{config_hash(model)}-facts", lambda: _facts(model)))


def refusal(model: Model, *, size: int, images: int) -> str | None:
    """Why the network can't train on so many images of that side at once; None where it can.

    Raises UserError as `mfm.models.backbones.create_backbone` does.
    """
    name = f"{config_hash(model)}-{size}-{images}"
    found = _remembered(name, lambda: _tried(model, size=size, images=images))
    why: str | None = found["refusal"]
    return why


def _facts(model: Model) -> dict[str, Any]:
    from mfm.models import backbones  # torch and timm

    network = backbones.create_backbone(model, classes=0)
    return asdict(
        Facts(
            stride=backbones.stride(network),
            fixed_size=backbones.has_fixed_size(model.backbone),
            patch=backbones.patch_side(network),
            leaves_patches_out=backbones.leaves_patches_out(network),
        )
    )


def _tried(model: Model, *, size: int, images: int) -> dict[str, Any]:
    """What a step of shapes without numbers ends in, which takes no time at any size."""
    import torch

    from mfm.models.backbones import create_backbone

    network = create_backbone(model, classes=2, image_size=size).to("meta").train()
    try:
        with torch.inference_mode():
            network(torch.empty(images, model.channels, size, size, device="meta"))
    except NotImplementedError:
        return {"refusal": None}  # an operation that can't be tried
    except Exception as error:  # a model raises whatever an image leads to
        return {"refusal": one_line(error)[:200] or type(error).__name__}
    return {"refusal": None}


def _remembered(name: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was found before by this code and this timm, or is found now."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mfm/networks")
    file = cache / f"{name}-{code_version()}-{version('timm')}.json"
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    except (OSError, ValueError):
        pass  # not known yet, or not readable
    found = find()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(found))
    except OSError:
        pass  # no folder to remember it in: it is found again each time
    return found


def check_weights(
    weights: str, model: Model, *, size: int, normalisation: Normalisation | None = None
) -> list[str]:
    """What does not fit in initial weights, and is no fault.

    Raises UserError where they are of another network, or hold no numbers.

    A file is read, the first time; of a name that is to be fetched, what its source says of the
    network, its tensors' shapes and its normalisation is compared.
    """
    file = source_of(weights).file(weights)
    known = f"{weights} {version('torchvision')}"
    if file is not None:
        status = os.stat(file)
        at = f"{status.st_size} {status.st_mtime_ns}"
        known = f"{Path(file).resolve()} {at} {origin_of(weights)}"  # of a config.json beside it
    known = hashlib.sha256(f"{known} {normalisation}".encode()).hexdigest()[:16]
    found = _remembered(
        f"{config_hash(model)}-{size}-{known}",
        lambda: _loaded(weights, model, size=size, normalisation=normalisation),
    )
    if found["refusal"] is not None:
        raise UserError(found["refusal"])
    return [f"{weights} were {each}" for each in found["unfitted"]]


def _loaded(
    weights: str, model: Model, *, size: int, normalisation: Normalisation | None
) -> dict[str, Any]:
    from mfm.models.backbones import create_backbone
    from mfm.models.translation import to_timm
    from mfm.models.weights import load_backbone, read_weights

    make = partial(create_backbone, model, classes=2, image_size=size)
    try:
        origin = origin_of(weights)
        if origin.backbone not in (None, model.backbone):
            raise UserError(
                f"{weights} is of {origin.backbone}, and model.backbone is {model.backbone}: give "
                "weights of that, or change it"
            )
        if source_of(weights).file(weights) is not None:
            network, tensors = make(), read_weights(weights)
        else:
            expected = expected_of(weights)
            if expected is None:
                return {"refusal": None, "unfitted": []}  # its loading will tell
            network, tensors = without_numbers(make), to_timm(expected)
        report = load_backbone(
            network, tensors, source=weights, origin=origin, normalisation=normalisation
        )
    except UserError as error:
        return {"refusal": str(error)}
    return {"refusal": None, "unfitted": report.unfitted}


def check_size(
    size: int, stride: int, *, backbone: str, key: str, what: str = "this pretraining"
) -> None:
    """Raise UserError where the stride does not divide the size of an image to predict."""
    if size % stride:
        nearest = max(stride, round(size / stride) * stride)
        raise UserError(
            f"{key} is {size}, but {what} predicts whole images, so it has to be a multiple of "
            f"{backbone}'s stride {stride}; set it to {nearest}"
        )
