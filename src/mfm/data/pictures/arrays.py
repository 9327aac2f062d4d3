"""Arrays of pictures that Pillow has no mode for: 16-bit colour, many channels, NumPy's files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]  # [height, width, channels]
NUMPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 274  # a tag of TIFF
_NUMBERS = "buif"  # kinds of NumPy's types


class UnfitError(ValueError):
    """A picture that doesn't have the channels that are asked for."""


class Layout(NamedTuple):
    """Where an array has which axis."""

    height: int
    width: int
    channels: int
    axis: int | None  # of the channels; None: there is none

    def of(self, values: Values) -> Values:
        """The values with the channels last."""
        return values[..., None] if self.axis is None else np.moveaxis(values, self.axis, -1)


def layout_of(shape: Sequence[int], channels: int | None, *, axis: int | None = None) -> Layout:
    """The layout of an array's shape; `axis` is that of the channels, where the file says it.

    Raises UnfitError where it could be several, and where there is none.
    """
    said = " x ".join(map(str, shape))
    if 0 in shape:
        raise UnfitError(f"it is an array of {said}, which is empty")
    if len(shape) == 2:
        return Layout(shape[0], shape[1], 1, None)
    if len(shape) != 3:
        raise UnfitError(f"it is an array of {said}: a picture has two axes, and one of channels")
    if axis is None:
        fit = [place for place in (0, 2) if channels is None or shape[place] == channels]
        if channels == 3 and not fit:  # a grey one becomes RGB
            fit = [place for place in (0, 2) if shape[place] == 1]
        if len(fit) != 1:
            wanted = "its channels" if channels is None else f"the {channels} of dataset.channels"
            why = "could be the first axis or the last" if fit else "are neither first nor last"
            raise UnfitError(f"it is an array of {said}, of which {wanted} {why}")
        (axis,) = fit
    height, width = (side for place, side in enumerate(shape) if place != axis)
    return Layout(height, width, shape[axis], axis)


def turned(values: Values, orientation: int) -> Values:
    """An image as EXIF says that it is to be looked at."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return values[::rows, ::columns]


def numpy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a NumPy file's array; raises UnfitError where those are no numbers."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind not in _NUMBERS:
        raise UnfitError(f"it is an array of {dtype}, which are no numbers of a picture")
    return shape, dtype


def numpy_values(file: BinaryIO) -> Values:
    """A NumPy file's array."""
    values: Values = np.load(file, allow_pickle=False)
    return values


def png_values(file: BinaryIO) -> Values:
    """Of a PNG with 16 bits a channel, as they are in the file."""
    import torch  # takes seconds, and few pictures need it
    from torchvision.io import ImageReadMode, decode_image

    content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision would have TorchCodec
        values: Values = decode_image(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    return values


def tiff_shape(file: BinaryIO) -> tuple[int, ...]:
    """Shape of the first series' array."""
    with _open_tiff(file) as tiff:
        return tuple(tiff.series[0].shape)


def tiff_header(file: BinaryIO, channels: int | None) -> tuple[Layout, np.dtype[Any], int]:
    """Layout, type and orientation of a TIFF's first series of pictures."""
    with _open_tiff(file) as tiff:
        series = tiff.series[0]
        axes = [series.axes.find(axis) for axis in "SC" if axis in series.axes]
        layout = layout_of(series.shape, channels, axis=axes[0] if axes else None)
        tag = tiff.pages[0].tags.get(_ORIENTATION)
        return layout, series.dtype, int(tag.value) if tag else 1


def tiff_values(file: BinaryIO) -> Values:
    """The first series' array."""
    with _open_tiff(file) as tiff:
        values: Values = tiff.series[0].asarray()
        return values


def _open_tiff(file: BinaryIO) -> Any:
    try:
        from tifffile import TiffFile
    except ImportError:
        raise ImportError(
            "a TIFF of a kind that is read with the package tifffile: pip install tifffile"
        ) from None
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, we tell
    return TiffFile(file)
