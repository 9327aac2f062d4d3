"""Rolling checkpoints of a run: whole, checked, and never executing code.

A rolling checkpoint's name carries the checksum of its content, so that one rename makes both
appear at once. They lie in the run folder's `rolling/`, which the workflow doesn't know about:
Snakemake deletes what it declared before a job starts, and these must survive.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors
import torch

from mfm.atomic import replacing
from mfm.errors import UserError, one_line

State = dict[str, Any]
FOLDER = "rolling"


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


def save_state(state: State, path: Path) -> None:
    """Write a full checkpoint atomically.

    Raises UserError where the disk doesn't take it; older files are untouched then.
    """
    with explaining_full_disk(path), replacing(path) as temporary:
        torch.save(state, temporary)


def copy(source: Path, path: Path) -> None:
    """Copy a checkpoint atomically; raises UserError as `save_state` does."""
    with explaining_full_disk(path), replacing(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def explaining_full_disk(path: Path) -> Iterator[None]:
    """Turn a failed write into a UserError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer; and, from a signal handler
        # and so in the middle of anything, a loader process that was killed. That is no user's
        # error: the ranks are started again.
        if "DataLoader worker" in str(error):
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        raise UserError(
            f"writing {path} failed ({one_line(error)[:160]}; {free:.0f} MB free on that disk); "
            "older checkpoints are intact: free some space and start again to continue"
        ) from None


def save_rolling(state: State, run: Path, *, epoch: int, step: int, keep: int) -> Path:
    """Add a rolling checkpoint and prune to the newest `keep`."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / "unnamed.pt"
    save_state(state, unnamed)
    path = folder / f"epoch{epoch:05d}-step{step:08d}-{_checksum(unnamed)}.pt"
    unnamed.rename(path)
    # The new one always stays: after damaged ones it may not be the newest by name.
    for old in [other for other in rolling(run) if other != path][keep - 1 :]:
        old.unlink()
    return path


def rolling(run: Path) -> list[Path]:
    """Rolling checkpoints of a run, newest first."""
    return sorted((run / FOLDER).glob("epoch*-step*-*.pt"), reverse=True)


def load_rolling(run: Path) -> State | None:
    """The newest rolling checkpoint that is whole, or None where there never was one.

    Raises UserError where there are some and all are damaged: starting from zero would hide it.
    """
    paths = rolling(run)
    for path in paths:
        if path.stem.rsplit("-", 1)[1] == _checksum(path):
            state: State = load_pickle(path)
            return state
        print(f"mfm: checkpoint {path} is damaged, trying the one before", file=sys.stderr)
    if paths:
        raise UserError(
            f"all checkpoints in {run / FOLDER} are damaged; remove that folder to train from "
            "the start"
        )
    return None


def remove_rolling(run: Path) -> None:
    """Remove them all, after the final files are in place."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
