"""Weights of torchvision, by their name: ResNet50_Weights.IMAGENET1K_V1."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mfm.errors import UserError
from mfm.models.sources.file import unwrapped

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor
    from torchvision.models import WeightsEnum

PREFIX = "torchvision/"


def claims(weights: str) -> bool:
    """Every name that is no other source's: one of torchvision's, or a mistake that it names."""
    return True


def file(weights: str) -> None:
    """It is fetched before any training, into torch's cache."""
    return None


def check(weights: str) -> None:
    """Raise UserError for a name that torchvision doesn't know."""
    _enum(weights)


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


def _enum(weights: str) -> WeightsEnum:
    import torchvision

    name = weights.removeprefix(PREFIX)
    try:
        known: WeightsEnum = torchvision.models.get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise UserError(
            f"weights: '{weights}' is neither a file nor a torchvision weight name such as "
            "ResNet50_Weights.IMAGENET1K_V1"
        ) from None
    return known


def _cached(weights: WeightsEnum) -> Path:
    """Where torch.hub keeps a file of torchvision's."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
