"""Content of an image's file, wherever it lies: alone, or in a shard, a tar of many."""

from __future__ import annotations

import io
import os
import stat
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mfm.errors import UserError, no_fault_of_the_file
from mfm.files.lines import shown
from mfm.numerics.draws import Ints

HEADER = 512  # bytes that a tar has in front of a file's
_OPEN = 256  # shards that a process keeps open
# Columns more where a split's images lie in shards: '' and zeros of those that don't.
COLUMNS = (
    pa.field("shard", pa.string()),  # below the dataset's folder
    pa.field("offset", pa.int64()),  # of the first byte in it
    pa.field("header", pa.uint32()),  # CRC-32 of what the tar has in front of it
)


class Member(NamedTuple):
    """Where a shard has an image."""

    shard: str
    offset: int
    bytes: int
    header: int
    since: int  # which of the files that may have had the shard's name: the time of its change


class Place(NamedTuple):
    """Where an image is."""

    path: str  # of its file, in a shard as it would be without
    member: Member | None = None

    @property
    def name(self) -> str:
        """What to call it in a message."""
        if self.member is None:
            return self.path
        return f"{self.path} (in {self.member.shard})"


class Status(NamedTuple):
    """What a system knows of an image's file."""

    bytes: int
    mtime_ns: int
    is_file: bool


@dataclass(frozen=True)
class Members:
    """Where shards have some images."""

    shards: tuple[str, ...]
    numbers: Ints  # [n] of the shards
    offsets: Ints  # [n]
    bytes: Ints  # [n]
    headers: Ints  # [n]
    since: int

    def __getitem__(self, position: int) -> Member:
        return Member(
            self.shards[self.numbers[position]],
            int(self.offsets[position]),
            int(self.bytes[position]),
            int(self.headers[position]),
            self.since,
        )

    def take(self, positions: Ints) -> Members:
        """Those of the images at `positions`."""
        names = ("numbers", "offsets", "bytes", "headers")
        return replace(self, **{name: getattr(self, name)[positions] for name in names})


def places(folder: Path, rows: pa.Table) -> list[Place]:
    """Where images are, of which a scan's rows are given."""
    paths = [f"{folder}{os.sep}{path}" for path in rows["path"].to_pylist()]
    if COLUMNS[0].name not in rows.column_names:
        return [Place(path) for path in paths]
    names = ("shard", "offset", "bytes", "header", "mtime_ns")
    members = zip(*(rows[name].to_pylist() for name in names), strict=True)
    return [
        Place(path, Member(f"{folder}{os.sep}{shard}", *rest) if shard else None)
        for path, (shard, *rest) in zip(paths, members, strict=True)
    ]


def status(place: Place) -> Status:
    """Size and time of an image's file; the time is the shard's."""
    if place.member is not None:
        return Status(place.member.bytes, place.member.since, is_file=True)
    found = os.stat(place.path)
    return Status(found.st_size, found.st_mtime_ns, stat.S_ISREG(found.st_mode))


def opened(place: Place) -> io.BufferedReader | io.BytesIO:
    """An image's file, at its start. Raises OSError, and what `read` raises of a shard."""
    if place.member is None:
        return open(place.path, "rb")
    return io.BytesIO(read(place))


def read(place: Place) -> bytes:
    """All bytes of an image's file.

    Raises OSError, but UserError of a shard that is gone, can't be read, or has changed.
    """
    member = place.member
    if member is None:
        with open(place.path, "rb", buffering=0) as file:
            return file.read()
    try:
        # No position that processes would share: what was open before a fork stays of use.
        found = _open(member.shard, member.since).read(member.offset - HEADER, member.bytes)
    except FileNotFoundError:
        raise UserError(
            f"shard {shown(member.shard)} is gone since the dataset was linked; put it back, or "
            "link the images that are there: --forcerun link_dataset"
        ) from None
    except OSError as error:
        if no_fault_of_the_file(error):
            raise
        raise UserError(f"shard {shown(member.shard)} can't be read: {error.strerror}") from None
    if len(found) != HEADER + member.bytes or checksum(found[:HEADER]) != member.header:
        raise UserError(
            f"shard {shown(member.shard)} has changed since the dataset was linked, and "
            f"{shown(place.path)} isn't where it was; link it again: --forcerun link_dataset"
        )
    return found[HEADER:]


def checksum(header: bytes) -> int:
    """What is kept of the bytes in front of a shard's file, which have its name, size and time."""
    return zlib.crc32(header)


class _Shard:
    """An open shard, which is closed when nothing refers to it."""

    def __init__(self, path: str) -> None:
        self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, size: int) -> bytes:
        """A header, and `size` bytes behind it."""
        return os.pread(self.handle, HEADER + size, start)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


@lru_cache(maxsize=_OPEN)
def _open(path: str, since: int) -> _Shard:
    return _Shard(path)
