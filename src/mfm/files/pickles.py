"""Files of torch.save, read without executing anything in them."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from mfm.errors import UserError, one_line

# The public MFM codes save their settings beside the tensors, as objects of the classes named here.
# They become objects that do nothing, whatever the file says; torch fills only its own dicts.
_SETTINGS: list[Any] = [
    (SimpleNamespace, "argparse.Namespace"),
    (OrderedDict, "yacs.config.CfgNode"),
]


def load_pickle(path: Path) -> Any:
    """Load a .pth file of tensors and plain values.

    Settings of argparse and yacs are let through, as objects that do nothing.
    Raises UserError for a file that can't be read, and for one that would have to run code.
    """
    try:
        with torch.serialization.safe_globals(_SETTINGS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _looks_pickled(path):
            raise UserError(
                f"{path} is not a readable checkpoint: {one_line(error)[:200]}"
            ) from None
        raise UserError(
            f"{path} is refused: it holds more than tensors and plain values, so loading it could "
            "run code; save its state_dict alone, or as safetensors, where you trust it"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler fail in any way at all
        raise UserError(f"{path} is not a readable checkpoint: {one_line(error)[:200]}") from None


def _looks_pickled(path: Path) -> bool:
    """Whether a file is what torch.save writes, today (zip) or before 1.6 (a plain pickle)."""
    with open(path, "rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(path)
