"""Kinds of pictures in a user's folder that are no RGB: how many channels they have, by a look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import UnidentifiedImageError

from mfm.data import arrays
from mfm.data.formats import BROKEN, NUMPY, open_image

_LOOKED_AT = 200  # files
_MOST = 64  # channels


def channels_of(folder: Path) -> int | None:
    """Channels of the first NumPy file, or TIFF that Pillow doesn't open; None: there are none."""
    for path in islice(_files(folder), _LOOKED_AT):
        try:
            with open(path, "rb") as file:
                if path.suffix.lower() == NUMPY:
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


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith((NUMPY, ".tif", ".tiff")):
                yield Path(root, name)


def _fewest(shape: tuple[int, ...]) -> int | None:
    """The channels are the shorter one of the axes that may be theirs; grey can be seen as RGB."""
    fewest = min(shape[0], shape[-1]) if len(shape) == 3 else 1
    if fewest == 1:
        return 3
    return fewest if fewest <= _MOST else None
