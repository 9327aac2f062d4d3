"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import safetensors

from mfm.errors import UserError, one_line


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; sync it and rename it on success, remove it if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], names: Sequence[str]) -> None:
    """Write rows below a head of their columns' names, in one piece."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


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
