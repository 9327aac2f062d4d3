"""Opening of a picture, whatever holds it: by Pillow, or as an array where it has no mode for it.

Pillow gives the upper 8 bits of 16-bit colour, clips 16-bit grey where it makes it RGB, and knows
no more than four channels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mfm.data.pictures import arrays
from mfm.data.pictures.arrays import UnfitError, Values
from mfm.data.pictures.formats import open_image
from mfm.data.pictures.reading import Reading, Window

Planes = tuple[Image.Image, ...]  # one in mode L or RGB, or one in mode L for each channel
_BITS, _KIND = 258, 339  # tags of TIFF
_KINDS = {1: "uint", 2: "int", 3: "float"}
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by its type of colour


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture, of which the header alone has been read."""

    size: tuple[int, int]  # width, height, as it will be decoded
    channels: int  # without transparency, where three are asked for
    mode: str  # Pillow's, or '3 x uint16'
    format: str  # Pillow's, or 'NPY'
    # Decodes it, and says which size it has; raises ValueError where values are no numbers.
    load: Callable[[], tuple[int, int]]
    values: Callable[[], Values]  # those that the file has, as many channels as above
    image: Image.Image | None = None  # where Pillow has 8 bits of it, not decoded nor turned


def is_deep(mode: str) -> bool:
    """Whether values of this mode have more than 8 bits, or none."""
    return mode[:1] in ("I", "F") or (" x " in mode and not mode.endswith(" uint8"))


def open_picture(file: BinaryIO, reading: Reading) -> Picture:
    """The picture in a file, from its start.

    Raises ImportError for what needs a package that isn't there, UnfitError where it doesn't have
    the channels that are asked for, and what Pillow raises (`mfm.data.pictures.formats.BROKEN`).
    """
    picture = _opened(file, reading)
    wanted = (1, 3) if reading.out_channels == 3 else (reading.channels,)
    if picture.channels not in wanted:
        raise UnfitError(_other_channels(picture.channels, reading))
    return picture


def _other_channels(found: int, reading: Reading) -> str:
    text = f"it has {found} channel{'s' * (found > 1)}"
    if reading.channels is None:
        return f"{text}; for pictures that all have so many: dataset.channels: {found}"
    return f"{text}, and dataset.channels is {reading.channels}"


def _opened(file: BinaryIO, reading: Reading) -> Picture:
    start = file.read(32)
    file.seek(0)
    if reading.channels is not None and start.startswith(arrays.NUMPY):
        return _of_numpy(file, reading)
    try:
        image = open_image(file)
    except UnidentifiedImageError:
        if not start.startswith(arrays.TIFF):
            raise
        picture = _of_tiff(file, reading)
        # One that nothing was said of is opened to be told of, not to be read.
        if reading.channels or reading.takes_deep or is_deep(picture.mode):
            return picture
        if picture.channels not in (1, 3):
            raise UnfitError(_other_channels(picture.channels, reading)) from None
        raise
    if image.format == "PNG" and start[24] == 16 and not is_deep(image.mode):
        return _of_png(file, image, _PNG_CHANNELS[start[25]], reading)
    if image.format == "TIFF":
        bits, signed = max(_tag(image, _BITS)), _kind(image) == "int"
        if (bits > 8 or signed) and not is_deep(image.mode):
            return _of_deep_colour(file, image, bits, reading)
        bands = len(image.getbands())
        many = reading.out_channels != 3 or (bands == 1 and getattr(image, "n_frames", 1) > 1)
        if reading.channels is not None and many:
            return _of_tiff(file, reading)
    return _of_pillow(image, reading)


def planes(picture: Picture, reading: Reading) -> Planes:
    """A picture as images of 8 bits."""
    image = picture.image
    if image is not None and reading.out_channels == 3:
        image.load()
        image = ImageOps.exif_transpose(image) if reading.exif == "apply" else image
        return (image if image.mode == "L" else image.convert("RGB"),)
    values = np.ascontiguousarray(to_bytes(picture.values(), reading.window or ()))
    if values.shape[2] in (1, 3):
        return (Image.fromarray(values.squeeze(2) if values.shape[2] == 1 else values),)
    return tuple(Image.fromarray(plane) for plane in np.moveaxis(values, 2, 0).copy())


def shown_channels(channels: int) -> str:
    """What is to be said of a figure of images, whose channels it may not show all."""
    if channels in (1, 3):
        return ""
    if channels == 2:
        return "Of 2 channels, images show the first."
    return f"Of {channels} channels, images show the first three as red, green and blue."


def as_rgb(planes: Planes) -> Image.Image:
    """What is shown of a picture: its first three channels, or the first in grey; a copy."""
    if len(planes) >= 3:
        return Image.merge("RGB", planes[:3])
    return planes[0].convert("RGB")


def to_bytes(values: Values, window: Window) -> npt.NDArray[np.uint8]:
    """Values [height, width, channels] as bytes, those of the window as 0 to 255.

    Raises ValueError where some are no numbers.
    """
    if values.dtype == np.uint8:
        return values
    check_finite(values)
    low, high = np.array(window, np.float64).T
    scaled = (values - low) * (255 / (high - low))
    whole: npt.NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return whole


def check_finite(values: Values) -> None:
    """Raise ValueError where values are no numbers."""
    if values.dtype.kind != "f":
        return
    number = int(values.size - np.isfinite(values).sum())
    if number:
        raise ValueError(f"{number:,} of its {values.size:,} values are NaN or infinite")


def _of_pillow(image: Image.Image, reading: Reading) -> Picture:
    """What Pillow decodes as it is."""
    orientation = _orientation(image, reading)
    size = image.size

    def load() -> tuple[int, int]:
        image.load()
        if image.mode == "F":
            check_finite(np.asarray(image))
        return _turned_size(image.size, orientation)

    def values() -> Values:
        grey = image.convert("L") if image.mode == "1" else image
        found = np.asarray(grey)
        if image.format == "TIFF" and image.mode == "I" and _kind(image) == "uint":
            found = found.view(np.uint32)  # to Pillow, the upper half is negative
        return arrays.turned(found if found.ndim == 3 else found[..., None], orientation)

    bands = 3 if image.mode in ("P", "PA") else len(image.getbands())
    return Picture(
        size=_turned_size(size, orientation),
        # What isn't grey becomes RGB, whatever it is.
        channels=(1 if bands == 1 else 3) if reading.out_channels == 3 else bands,
        mode=image.mode,
        format=image.format or "",
        load=load,
        values=values,
        image=None if is_deep(image.mode) else image,
    )


def _of_array(
    *,
    size: tuple[int, int],
    channels: int,
    dtype: object,
    format_: str,
    values: Callable[[], Values],
) -> Picture:
    def load() -> tuple[int, int]:
        found = values()
        check_finite(found)
        height, width, _ = found.shape
        return width, height

    return Picture(
        size=size,
        channels=channels,
        mode=f"{channels} x {dtype}",
        format=format_,
        load=load,
        values=values,
    )


def _of_numpy(file: BinaryIO, reading: Reading) -> Picture:
    shape, dtype = arrays.numpy_header(file)
    # A grey one becomes RGB, as any grey picture.
    layout = arrays.layout_of(shape, reading.channels)

    def values() -> Values:
        file.seek(0)
        return layout.of(arrays.numpy_values(file))

    return _of_array(
        size=(layout.width, layout.height),
        channels=layout.channels,
        dtype=dtype.newbyteorder("="),
        format_="NPY",
        values=values,
    )


def _of_tiff(file: BinaryIO, reading: Reading) -> Picture:
    """A TIFF that Pillow doesn't read, or of whose channels it would leave some out."""
    file.seek(0)
    layout, dtype, orientation = arrays.tiff_header(file, reading.channels)

    def values() -> Values:
        file.seek(0)
        return arrays.turned(layout.of(arrays.tiff_values(file)), orientation)

    return _of_array(
        size=_turned_size((layout.width, layout.height), orientation),
        channels=layout.channels,
        dtype=dtype.newbyteorder("="),
        format_="TIFF",
        values=values,
    )


def _of_deep_colour(file: BinaryIO, image: Image.Image, bits: int, reading: Reading) -> Picture:
    """A TIFF of whose values Pillow would give the upper bits; it has turned its size already."""
    kind = _kind(image)
    bands = len(image.getbands())
    channels = _opaque(bands, reading)
    if not reading.takes_deep:
        return replace(_of_pillow(image, reading), mode=f"{channels} x {kind}{bits}", image=None)

    def values() -> Values:
        file.seek(0)
        layout, _, orientation = arrays.tiff_header(file, bands)
        file.seek(0)
        found = layout.of(arrays.tiff_values(file))
        return arrays.turned(found, orientation)[..., :channels]

    return _of_array(
        size=image.size, channels=channels, dtype=f"{kind}{bits}", format_="TIFF", values=values
    )


def _kind(tiff: Image.Image) -> str:
    return _KINDS.get(max(_tag(tiff, _KIND)), "uint")


def _tag(tiff: Image.Image, number: int) -> tuple[int, ...]:
    """A tag of a TIFF; (1,) without it."""
    assert isinstance(tiff, TiffImageFile), tiff.format
    found: tuple[int, ...] = tiff.tag_v2.get(number, (1,))
    return found


def _of_png(file: BinaryIO, image: Image.Image, bands: int, reading: Reading) -> Picture:
    """A PNG of whose values Pillow would give the upper bits."""
    orientation, channels = _orientation(image, reading), _opaque(bands, reading)
    if not reading.takes_deep:
        return replace(_of_pillow(image, reading), mode=f"{channels} x uint16", image=None)

    def values() -> Values:
        file.seek(0)
        return arrays.turned(arrays.png_values(file), orientation)[..., :channels]

    return _of_array(
        size=_turned_size(image.size, orientation),
        channels=channels,
        dtype="uint16",
        format_="PNG",
        values=values,
    )


def _opaque(bands: int, reading: Reading) -> int:
    """Channels without transparency, where RGB or grey is asked for, as of 8 bits."""
    return {2: 1, 4: 3}.get(bands, bands) if reading.out_channels == 3 else bands


def _orientation(image: Image.Image, reading: Reading) -> int:
    """As EXIF asks for; a TIFF is turned by Pillow itself, HEIC by its decoder."""
    if reading.exif == "ignore" or image.format == "TIFF":
        return 1
    return exif_orientation(image)


def orientation_of(content: bytes) -> int:
    """What the EXIF data in a file that Pillow opens asks for; 1: nothing."""
    return exif_orientation(open_image(io.BytesIO(content)))


def facts_of_pillow(content: bytes) -> tuple[int, int]:
    """What a file's EXIF data asks for, and its number of pictures; 1 and 1 of other files."""
    try:
        image = open_image(io.BytesIO(content))
    except UnidentifiedImageError:
        return 1, 1
    return exif_orientation(image), getattr(image, "n_frames", 1)


def exif_orientation(image: Image.Image) -> int:
    """What the EXIF data of an image asks for; 1: nothing."""
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation >= 5 else size
