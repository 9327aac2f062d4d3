"""Rolling checkpoints of a run: whole, checked, and never executing code.

A rolling checkpoint's name carries the checksum of its content, so that one rename makes both
appear at once. They lie in the run folder's `rolling/`, which the workflow doesn't know about:
Snakemake deletes what it declared before a job starts, and these must survive.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from mfm.errors import UserError
from mfm.files.atomic import explaining_full_disk, replacing
from mfm.files.pickles import load_pickle
from mfm.training import status

State = dict[str, Any]
FOLDER = status.FOLDER


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
