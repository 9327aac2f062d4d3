"""Decoding of one image file: as Pillow's RGB conversion gives it, or as the dataset is read."""

from __future__ import annotations

import io

from mfm.data.linking.manifest import Images
from mfm.data.pictures import contents
from mfm.data.pictures.formats import BROKEN, open_image, unreadable
from mfm.data.pictures.opening import Planes, is_deep, open_picture, planes
from mfm.errors import UserError, no_fault_of_the_file
from mfm.files.lines import shown

_KEPT_PIXELS = 128 * 128
_KEPT_BYTES = 64 * 2**20
_OBJECT_BYTES = 600  # of a Pillow image without its pixels, about


def name(images: Images, position: int) -> str:
    """What to call the file of image `position`."""
    return images.place(position).name


def read(images: Images, position: int) -> bytes:
    """The content of an image's file; raises UserError where it can't be read."""
    place = images.place(position)
    try:
        return contents.read(place)
    except FileNotFoundError:
        raise UserError(
            f"image {shown(place.name)} is gone since the dataset was linked; put it back, or link "
            "the images that are there: --forcerun link_dataset"
        ) from None
    except OSError as error:
        if no_fault_of_the_file(error):
            raise
        raise unreadable(place.name, error.strerror) from None


def check_size(images: Images, position: int, found: tuple[int, int]) -> None:
    """Raise UserError for an image whose size is not the manifest's: its crop would be wrong."""
    size = int(images.widths[position]), int(images.heights[position])
    if found != size:
        raise UserError(
            f"{shown(name(images, position))} was {size[0]}x{size[1]} pixels when the dataset was "
            f"linked and is {found[0]}x{found[1]} now; run with --forcerun link_dataset"
        )


def decode(images: Images, position: int, content: bytes) -> Planes:
    """One image from its file's content, as the dataset is read (`images.reading`).

    A grey one ("L") stays grey: what is done to each channel alone can be done before grey becomes
    RGB, at a third of the cost.

    Raises UserError for an unreadable image, for one whose size isn't the manifest's, and for one
    of more than 8 bits where nothing says what becomes of those.
    """
    try:
        if not images.reading.is_plain:
            return _decode(images, position, content)
        with open_image(io.BytesIO(content)) as image:
            check_size(images, position, image.size)
            if is_deep(image.mode):
                raise _too_deep(name(images, position))
            if image.mode != "L":
                return (image.convert("RGB"),)
            image.load()
            return (image,)
    except (*BROKEN, ImportError) as error:
        raise unreadable(name(images, position), error) from None


def _decode(images: Images, position: int, content: bytes) -> Planes:
    picture = open_picture(io.BytesIO(content), images.reading)
    check_size(images, position, picture.size)
    if is_deep(picture.mode) and images.reading.window is None:
        raise _too_deep(name(images, position))
    return planes(picture, images.reading)


def _too_deep(path: str) -> UserError:
    """What to say where an earlier version, which clipped such values, linked the dataset."""
    return UserError(
        f"{shown(path)} has more than 8 bits a value, and they would be clipped: set dataset.scale "
        "(docs/own-images.md)"
    )


class Decoder:
    """Decodes, and keeps small images, up to 64 MB of them.

    A small image costs more to open than to crop and resize, and is asked for again each epoch.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._kept: dict[int, Planes] = {}
        self._bytes = 0

    def __call__(self, position: int, content: bytes | None = None) -> Planes:
        """An image, not to be changed; errors as in `decode`.

        `content` is the file's, where it was read already.
        """
        kept = self._kept.get(position)
        if kept is not None:
            return kept
        if content is None:
            content = read(self._images, position)
        image = decode(self._images, position, content)
        pixels = image[0].width * image[0].height
        # Pillow stores RGB in four bytes.
        channels = sum(1 if plane.mode == "L" else 4 for plane in image)
        size = pixels * channels + len(image) * _OBJECT_BYTES
        if pixels <= _KEPT_PIXELS and self._bytes + size <= _KEPT_BYTES:
            self._kept[position] = image
            self._bytes += size
        return image
