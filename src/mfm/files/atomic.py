"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import safetensors

from mfm.errors import UserError, one_line


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; sync it and rename it on success, remove it if not.

    What the system refuses is an error that names `path`.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is None or str(temporary) in (error.filename, error.filename2):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # of a disk that can only be read
            temporary.unlink(missing_ok=True)


def open_to_others(path: Path) -> None:
    """Give a file the rights of any other that this process writes.

    safetensors leaves its own to their owner alone.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(folder: Path, *, deep: bool = False) -> None:
    """Raise an OSError that names what can't be written of a folder: it or a file; deep, all in it.

    A full disk is one that takes no megabyte. Of a folder that isn't there yet, the one that it is
    going to be in is looked at.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(2**20))
    except OSError as error:
        error.filename = str(there)
        raise
    for path, _, names in os.walk(folder):
        for each in (path, *(os.path.join(path, name) for name in names)):
            if not os.path.islink(each) and not os.access(each, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), each)
        if not deep:
            break


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], names: Sequence[str]) -> None:
    """Write rows below a head of their columns' names, in one piece."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def explaining_full_disk(path: Path) -> Iterator[None]:
    """Turn a failed write by torch or safetensors into an error that says what to do.

    They tell of a full disk in words alone; other writers raise an OSError.
    """
    try:
        yield
    except (RuntimeError, safetensors.SafetensorError) as error:
        # torch raises a RuntimeError also, from a signal handler and so in the middle of anything,
        # for a loader process that was killed. That is no user's error: the ranks start again.
        if "DataLoader worker" in str(error):
            raise
        if (number := re.search(r"os error (\d+)", str(error))) is not None:
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None
        free = shutil.disk_usage(path.parent).free / 1e6
        raise UserError(
            f"{path}: writing failed, as it does on a full disk ({free:.0f} MB are free now); free "
            "some space there and start again; older checkpoints are intact "
            f"({one_line(error)[:80]})"
        ) from None
