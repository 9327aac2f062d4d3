"""Kinds of pictures in a user's folder, by a look at some: their channels, and whether they lie."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mfm.data.pictures import arrays
from mfm.data.pictures.formats import BROKEN, NUMPY, is_named_as_image, open_image
from mfm.data.pictures.opening import exif_orientation

_LOOKED_AT, _OF_A_FOLDER = 1_000, 50  # files
_MOST = 64  # channels
_TURNED_BY_DECODERS = ("TIFF", "HEIF")


def some_of(folder: Path) -> list[Path]:
    """Some files that are named as pictures, or as NumPy's, of as many folders as can be."""
    return list(islice(_files(folder), _LOOKED_AT))


def channels_of(files: Sequence[Path]) -> int | None:
    """Channels of the first NumPy file, or TIFF that Pillow doesn't open; None: there are none.

    NumPy files among more pictures are taken for something else about those.
    """
    numpy = [path for path in files if path.suffix.lower() == NUMPY]
    are_pictures = 2 * len(numpy) > len(files)
    for path in numpy if are_pictures else files:
        if not are_pictures and path.suffix.lower() not in (".tif", ".tiff"):
            continue
        try:
            with open(path, "rb") as file:
                if are_pictures:
                    shape, _ = arrays.numpy_header(file)
                    return _fewest(shape)
                try:
                    open_image(file)
                except UnidentifiedImageError:
                    file.seek(0)
                    return _fewest(arrays.tiff_shape(file))
        except (*BROKEN, ImportError):
            continue  # which is told when it is linked
    return None


def ask_to_be_turned(files: Sequence[Path]) -> bool:
    """Whether some do so by EXIF, as telephones' do, and aren't turned by their decoders."""
    for path in files:
        try:
            with open(path, "rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = open_image(file)
                if image.format not in _TURNED_BY_DECODERS and exif_orientation(image) != 1:
                    return True
        except (*BROKEN, ImportError):
            continue
    return False


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        named = (name for name in sorted(names) if is_named_as_image(name, arrays=True))
        yield from (Path(root, name) for name in islice(named, _OF_A_FOLDER))


def _fewest(shape: tuple[int, ...]) -> int | None:
    """The channels are the shorter one of the axes that may be theirs; grey can be seen as RGB."""
    fewest = min(shape[0], shape[-1]) if len(shape) == 3 else 1
    if fewest == 1:
        return 3
    return fewest if fewest <= _MOST else None
