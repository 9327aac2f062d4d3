"""Facts that are read of each file when a dataset is linked: header, then hash of its content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import warnings
from functools import partial
from io import BufferedReader, BytesIO
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from mfm.data.pictures import contents
from mfm.data.pictures.arrays import UnfitError
from mfm.data.pictures.contents import Place
from mfm.data.pictures.formats import (
    BROKEN,
    DRAWINGS,
    NO_PIXELS,
    RAW,
    UNMARKED,
    format_of,
    is_named_as_image,
)
from mfm.data.pictures.opening import Picture, open_picture
from mfm.data.pictures.reading import Reading
from mfm.errors import no_fault_of_the_file, one_line
from mfm.files.lines import shown

OTHER, LOOSE = "other file", "loose image"
ARRAY = "NumPy's .npy are images where dataset.channels says how many channels they have"
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_PLAIN = Reading()
_BLAKE = partial(hashlib.blake2b, digest_size=8)


class Facts(NamedTuple):
    """One readable image."""

    width: int  # pixels
    height: int  # pixels
    bytes: int
    mode: str  # Pillow's: 'RGB', 'L', 'CMYK', ..., or of what it has none for: '3 x uint16'
    format: str  # from the content and not from the file's name: Pillow's 'JPEG', 'PNG', ..., 'NPY'
    content: int  # BLAKE2b of the file, 64 bits: equal for equal files
    mtime_ns: int


class Unread(NamedTuple):
    """One file that is left out."""

    kind: str  # OTHER, LOOSE or one of a bad image: 'zero bytes', 'truncated', 'unreadable', ...
    reason: str

    @property
    def is_bad(self) -> bool:
        """Whether it is, or is named as, an image, and can't be used as one."""
        return self.kind not in (OTHER, LOOSE)


class Job(NamedTuple):
    """One file to read."""

    place: Place
    known: tuple[int, int] | None = None  # bytes and mtime_ns when it was read last
    is_loose: bool = False  # outside of the class folders: whether it is an image is all we ask
    is_whole: bool = True  # otherwise no hash, and pixels only where a file's end is missing


def read(job: Job, *, reading: Reading = _PLAIN) -> Facts | Unread | None:
    """Read one file; None where its size and time are those of the last reading.

    Its header comes first: what isn't an image is neither hashed nor decoded.
    """
    path = job.place.path
    try:
        status = contents.status(job.place)
        if job.known == (status.bytes, status.mtime_ns):
            return None
        if not status.is_file:
            return _named(path, "not a file", "not a file", reading)
        if status.bytes == 0:
            return _named(path, "zero bytes", "zero bytes", reading)
        with contents.opened(job.place) as file, warnings.catch_warnings():
            # Large images are welcome up to the size at which Pillow raises an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _read_open(file, job, status, _PLAIN if job.is_loose else reading)
    except OSError as error:
        return _no_access(path, error)


def _read_open(
    file: BufferedReader | BytesIO, job: Job, status: contents.Status, reading: Reading
) -> Facts | Unread:
    path = job.place.path
    try:
        picture = open_picture(file, reading)
    except UnfitError as error:
        return Unread("other channels", str(error))
    except UnidentifiedImageError:
        if reading.channels is None and format_of(path) == "NPY":
            return Unread(OTHER, ARRAY)
        return _named(path, "not an image", "no image that Pillow knows, or cut off early", reading)
    except ImportError as error:
        return Unread("needs a library", str(error))
    except Image.DecompressionBombError as error:
        return _too_large(error)
    except BROKEN as error:
        return _named(path, *_undecodable(path, error), reading)
    refused = _refused(path, picture.format)
    if refused is not None:
        return refused
    if job.is_loose:
        return Unread(LOOSE, "outside of the class folders")
    position, digest = file.tell(), b""
    if job.is_whole:
        file.seek(0)
        digest = hashlib.file_digest(file, _BLAKE).digest()
    if not _ends_well(file, picture.format) and (job.is_whole or picture.format in _ENDINGS):
        file.seek(position)
        broken = _decode(path, picture)
        if broken is not None:
            return broken
    return Facts(
        *picture.size,
        status.bytes,
        picture.mode,
        picture.format,
        _number(digest),
        status.mtime_ns,
    )


def content_of(file: bytes) -> int:
    """What `Facts` has of a file's content, from all of it."""
    return _number(_BLAKE(file).digest())


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


def _decode(path: str, picture: Picture) -> Unread | None:
    """What is wrong with the pixels, of which some may be missing."""
    try:
        size = picture.load()
    except ImportError as error:
        return Unread("needs a library", str(error))
    except Image.DecompressionBombError as error:
        return _too_large(error)
    except BROKEN as error:
        if picture.format in UNMARKED and format_of(path) != picture.format:
            return Unread(OTHER, "not an image that Pillow knows")
        return Unread(*_undecodable(path, error))
    if size != picture.size:
        told, found = (f"{width}x{height}" for width, height in (picture.size, size))
        return Unread("unreadable", f"its header says {told} pixels, and there are {found}")
    return None


def _refused(path: str, image_format: str) -> Unread | None:
    """What Pillow knows and gives no pixels of, or not those that were meant."""
    if image_format in NO_PIXELS:
        return Unread(OTHER, f"{image_format}, which Pillow doesn't decode")
    if image_format in DRAWINGS:
        return Unread("unreadable", f"{image_format}, a drawing without pixels: convert it")
    if path.lower().endswith(RAW):
        return Unread("unreadable", "a camera's raw file, of which Pillow sees a preview at most")
    return None


def _named(path: str, kind: str, reason: str, reading: Reading) -> Unread:
    """A file that is no image: bad where its name is that of one."""
    is_bad = is_named_as_image(path, arrays=reading.channels is not None)
    return Unread(kind if is_bad else OTHER, reason)


def _too_large(error: Image.DecompressionBombError) -> Unread:
    numbers = [int(number) for number in re.findall(r"\d+", str(error))]
    if len(numbers) != 2:
        return Unread("too large", one_line(error))
    there, limit = (f"{number / 1e6:,.1f}" for number in numbers)
    return Unread(
        "too large", f"{there} megapixels, and Pillow's limit is {limit}: make it smaller or cut it"
    )


def _undecodable(path: str, error: BaseException) -> tuple[str, str]:
    reason = f"{type(error).__name__}: {one_line(error)}".replace(path, "the file")
    return "truncated" if "truncated" in reason.lower() else "unreadable", reason


def _no_access(path: str, error: OSError) -> Unread:
    """A file of which not even the first byte can be read."""
    if error.errno in (errno.ENOENT, errno.ELOOP) and os.path.islink(path):
        target = shown(os.readlink(path))
        why = "which leads back to itself" if error.errno == errno.ELOOP else "which isn't there"
        return Unread("dangling link", f"a link to {target}, {why}")
    if no_fault_of_the_file(error):  # it would be left out, or refused, for nothing
        raise error
    return Unread("unreadable", error.strerror or one_line(error))


def _ends_well(file: BufferedReader | BytesIO, image_format: str) -> bool:
    """Whether the file ends as its format ends: a cheap sign that it isn't truncated."""
    if image_format not in _ENDINGS:
        return False
    file.seek(-8, os.SEEK_END)
    return file.read().endswith(_ENDINGS[image_format])
