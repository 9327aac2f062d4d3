"""Weights from a file: .safetensors, or what torch.save wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm.errors import UserError
from mfm.models import registry
from mfm.models.origin import Origin, of_timm

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

_ENDINGS = (".pth", ".pt", ".safetensors", ".bin", ".ckpt")
# What a repository of the Hugging Face hub calls a model's weights; beside them its config.json.
OF_THE_HUB = ("model.safetensors", "pytorch_model.bin")
_WRAPPERS = ("model", "state_dict", "model_state_dict")


def claims(weights: str) -> bool:
    """A path with a '/', or with the ending of a weight file."""
    return "/" in weights.removeprefix("torchvision/") or has_ending(weights)


def has_ending(weights: str) -> bool:
    """Whether a name ends like a weight file's."""
    return Path(weights).suffix in _ENDINGS


def file(weights: str) -> str | None:
    """The path itself."""
    return str(Path(weights).expanduser())


def check(weights: str) -> None:
    """Raise UserError where there is no such file, or none that holds weights."""
    path = Path(weights).expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the file in it")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    wrong = _other_content(path)
    if wrong is not None:
        raise UserError(f"{path} holds no weights: {wrong}")


def read(weights: str) -> dict[str, Tensor]:
    """The file's tensors; of a timm model, as a folder of the hub has it, as timm reads them."""
    path = Path(weights).expanduser()
    tensors, said = tensors_of(path), _config(path)
    name = f"{said['architecture']}.{said.get('tag')}" if said else ""
    return registry.adapted(tensors, name, source=weights) if registry.is_known(name) else tensors


def origin(weights: str) -> Origin:
    """What the config.json of a timm model says beside it."""
    said = _config(Path(weights).expanduser())
    return of_timm(said, backbone=said["architecture"]) if said else Origin()


def _config(path: Path) -> dict[str, Any]:
    """timm's description of a file that is named as on the hub; {} where there is none."""
    if path.name not in OF_THE_HUB:
        return {}
    try:
        said = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        described = said.get("pretrained_cfg", said)
        return {**described, "architecture": str(said["architecture"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def tensors_of(path: Path) -> dict[str, Tensor]:
    """A file's tensors, out of the usual wrappers; nothing in it is executed."""
    import safetensors.torch

    from mfm.files.pickles import load_pickle

    check(str(path))
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"weights {path} can't be read: {error}; copy the file again") from None
    return unwrapped(load_pickle(path), path)


def _other_content(path: Path) -> str | None:
    """What a file holds that no weight file begins like; None where it may be one."""
    try:
        with open(path, "rb") as opened:
            start = opened.read(512)
    except OSError as error:
        return f"it can't be read ({error.strerror})"
    if not start:
        return "it is empty; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "it stands for a file of Git LFS; fetch that with 'git lfs pull'"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page; download the file itself"
    if start.decode("utf-8", errors="replace").replace("\n", " ").replace("\t", " ").isprintable():
        return "it is a text; give a file that torch.save or safetensors wrote"
    # A file of safetensors begins with its header's length, which may look like another format's.
    is_other = start[8:9] != b"{" and start.startswith((b"\x80", b"PK"))
    if path.suffix == ".safetensors" and is_other:
        return "torch.save wrote it, so its name has to end in .pth"
    if path.suffix != ".safetensors" and start[8:9] == b"{":
        return "it is in the format of safetensors, so its name has to end in .safetensors"
    return None


def unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint; UserError where it holds none."""
    from torch import Tensor

    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not names and tensors: save the model's "
            "state_dict()"
        )
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def checksum(weights: str) -> str:
    """SHA-256 of the file."""
    with open(Path(weights).expanduser(), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
