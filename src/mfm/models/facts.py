"""Facts of a network that are asked before anything is trained, remembered between calls.

Building a network takes seconds, most of them torch's import, and each start of the workflow asks.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from mfm.errors import UserError
from mfm.files.atomic import write_text
from mfm.models.settings import Model
from mfm.settings.section import config_hash
from mfm.version import code_version


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the sizes of images are checked against."""

    stride: int  # of the last map
    fixed_size: bool  # made for one image size


def facts_of(model: Model) -> Facts:
    """Raises UserError as `mfm.models.backbones.create_backbone` does."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mfm/networks")
    # Of this code and this timm alone.
    file = cache / f"{config_hash(model)}-{code_version()}-{version('timm')}.json"
    try:
        return Facts(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # not known yet, or not readable
    from mfm.models.backbones import create_backbone, has_fixed_size, stride  # torch and timm

    found = Facts(
        stride=stride(create_backbone(model, classes=0)),
        fixed_size=has_fixed_size(model.backbone),
    )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(asdict(found)))
    except OSError:
        pass  # no folder to remember it in: it is found again each time
    return found


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
