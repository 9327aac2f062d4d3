"""Weights from a file: .safetensors, or what torch.save wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mfm.errors import UserError

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

_ENDINGS = (".pth", ".pt", ".safetensors", ".bin", ".ckpt")
_WRAPPERS = ("model", "state_dict", "model_state_dict")


def claims(weights: str) -> bool:
    """A path with a '/', or with the ending of a weight file."""
    return "/" in weights.removeprefix("torchvision/") or Path(weights).suffix in _ENDINGS


def file(weights: str) -> str | None:
    """The path itself."""
    return weights


def check(weights: str) -> None:
    """Raise UserError where there is no such file."""
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"weights: there is no file {path}")


def read(weights: str) -> dict[str, Tensor]:
    """The file's tensors, out of the usual wrappers; nothing in it is executed."""
    import safetensors.torch

    from mfm.files.pickles import load_pickle

    path = Path(weights).expanduser()
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"weights {path} can't be read: {error}") from None
    check(weights)
    return unwrapped(load_pickle(path), path)


def unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint; UserError where it holds none."""
    from torch import Tensor

    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def checksum(weights: str) -> str:
    """SHA-256 of the file."""
    with open(Path(weights).expanduser(), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
