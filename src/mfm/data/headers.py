"""Facts that are read of each image file when a dataset is linked: header, hash of its content."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from functools import partial
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError

# torchvision's ImageFolder accepts these; Pillow reads all of them.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_BLAKE = partial(hashlib.blake2b, digest_size=8)


class Facts(NamedTuple):
    """One readable image."""

    width: int  # pixels
    height: int  # pixels
    bytes: int
    mode: str  # Pillow's: 'RGB', 'L', 'CMYK', ...
    format: str  # Pillow's, from the content and not from the file's name: 'JPEG', 'PNG', ...
    content: int  # BLAKE2b of the file, 64 bits: equal for equal files
    mtime_ns: int


class Unreadable(NamedTuple):
    """One file that Pillow can't read."""

    kind: str  # 'zero bytes', 'truncated', 'not an image' or 'unreadable'
    reason: str


Known = tuple[int, int]  # bytes and mtime_ns when the file was read last


def read(job: tuple[str, Known | None]) -> Facts | Unreadable | None:
    """Read one file, given its path; None where its size and time are those of the last reading."""
    path, known = job
    try:
        status = os.stat(path)
        if known == (status.st_size, status.st_mtime_ns):
            return None
        if not stat.S_ISREG(status.st_mode):
            return Unreadable("not an image", "not a file")
        if status.st_size == 0:
            return Unreadable("zero bytes", "zero bytes")
        with open(path, "rb") as file, warnings.catch_warnings():
            # Large images are welcome up to the size at which Pillow raises an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            digest = hashlib.file_digest(file, _BLAKE).digest()
            file.seek(0)
            with Image.open(file) as image:
                if not _ends_well(file, image.format):
                    image.load()  # decides: raises where pixels are missing
                return Facts(
                    image.width,
                    image.height,
                    status.st_size,
                    image.mode,
                    image.format or "",
                    int.from_bytes(digest, "little"),
                    status.st_mtime_ns,
                )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = f"{type(error).__name__}: {error}".replace(path, "the file")
        if isinstance(error, UnidentifiedImageError):
            return Unreadable("not an image", "not an image that Pillow knows")
        return Unreadable("truncated" if "truncated" in reason else "unreadable", reason)


def _ends_well(file: BinaryIO, image_format: str | None) -> bool:
    """Whether the file ends as its format ends: a cheap sign that it isn't truncated."""
    if image_format not in _ENDINGS:
        return False
    position = file.tell()
    file.seek(-8, os.SEEK_END)
    ending = file.read()
    file.seek(position)
    return ending.endswith(_ENDINGS[image_format])
