"""Formats of image files: told by their content, opened by Pillow or by what it needs for them."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import PurePath
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from mfm.errors import UserError
from mfm.files.lines import shown

# What Pillow knows by its head and can't decode, or not without another program.
NO_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG")
DRAWINGS = ("EPS", "WMF")
# Nothing at their head says what they are: a file of another name has to be decoded to be one.
UNMARKED = ("IM", "IMT", "IPTC", "PCD", "SPIDER", "TGA")
# Of these, Pillow opens a small preview as a TIFF, or nothing.
RAW = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw")
NUMPY = ".npy"
_HEIF = (".heic", ".heif", ".heics", ".heifs", ".hif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# What Pillow raises of a file that it can't read, for all of its formats.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


def open_image(file: BinaryIO) -> Image.Image:
    """As Pillow opens it, from the file's start, whatever its name.

    Raises ImportError for HEIC without pillow-heif, and what Pillow raises (BROKEN).
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in _HEIF_BRANDS:
            raise
    _register_heif()
    file.seek(0)
    return Image.open(file)


@cache
def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ImportError(
            "HEIC, which Pillow reads with the package pillow-heif: pip install pillow-heif"
        ) from None
    register_heif_opener()


def unreadable(path: str, error: object) -> UserError:
    """What to say of a file that is no image."""
    return UserError(
        f"unreadable image {shown(path)}: {error}; repair it, or remove it and link the others: "
        "--forcerun link_dataset"
    )


def is_named_as_image(path: str, *, arrays: bool = False) -> bool:
    """Whether a file's name promises an image; `arrays`: NumPy's files are some, too."""
    suffix = PurePath(path).suffix.lower()
    return suffix in RAW or suffix in _HEIF or suffix in _suffixes() or (arrays and suffix == NUMPY)


def format_of(path: str) -> str | None:
    """The format that a file's name promises."""
    Image.init()
    suffix = PurePath(path).suffix.lower()
    if suffix == NUMPY:
        return "NPY"
    return "HEIF" if suffix in _HEIF else Image.registered_extensions().get(suffix)


@cache
def _suffixes() -> frozenset[str]:
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, each in known if each not in (*NO_PIXELS, "PDF"))
