"""Reading one image file as Pillow's RGB conversion gives it."""

from __future__ import annotations

import io
import os

from PIL import Image

from mfm.data.formats import BROKEN, open_image
from mfm.data.manifest import Images
from mfm.errors import UserError, no_fault_of_the_file
from mfm.files.lines import shown

_KEPT_PIXELS = 128 * 128
_KEPT_BYTES = 64 * 2**20
_OBJECT_BYTES = 600  # of a Pillow image without its pixels, about


def name(images: Images, position: int) -> str:
    """The file of image `position`."""
    # Not images.path(): for small images, building a Path costs as much as decoding.
    return f"{images.root}{os.sep}{images.paths[position]}"


def read(images: Images, position: int) -> bytes:
    """The content of an image's file; raises UserError where it can't be read."""
    path = name(images, position)
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(
            f"image {shown(path)} is gone since the dataset was linked; put it back, or link the "
            "images that are there: --forcerun link_dataset"
        ) from None
    except OSError as error:
        if no_fault_of_the_file(error):
            raise
        raise unreadable(path, error.strerror) from None


def unreadable(path: str, error: object) -> UserError:
    """What to say of a file that is no image."""
    return UserError(
        f"unreadable image {shown(path)}: {error}; repair it, or remove it and link the others: "
        "--forcerun link_dataset"
    )


def check_size(images: Images, position: int, found: tuple[int, int]) -> None:
    """Raise UserError for an image whose size is not the manifest's: its crop would be wrong."""
    size = int(images.widths[position]), int(images.heights[position])
    if found != size:
        raise UserError(
            f"{shown(name(images, position))} was {size[0]}x{size[1]} pixels when the dataset was "
            f"linked and is {found[0]}x{found[1]} now; run with --forcerun link_dataset"
        )


def decode(images: Images, position: int) -> Image.Image:
    """One image in RGB: any mode, EXIF rotation not applied.

    Raises UserError for an unreadable image and for one whose size isn't the manifest's.
    """
    return decode_bytes(images, position, read(images, position)).convert("RGB")


def decode_bytes(images: Images, position: int, content: bytes) -> Image.Image:
    """As `decode`, from the file's content; a grey image ("L") stays grey.

    What is done to each channel alone can be done before grey becomes RGB, at a third of the cost.
    """
    try:
        with open_image(io.BytesIO(content)) as image:
            check_size(images, position, image.size)
            if image.mode != "L":
                return image.convert("RGB")
            image.load()
            return image
    except (*BROKEN, ImportError) as error:
        raise unreadable(name(images, position), error) from None


class Decoder:
    """Decodes, and keeps small images, up to 64 MB of them.

    A small image costs more to open than to crop and resize, and is asked for again each epoch.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._kept: dict[int, Image.Image] = {}
        self._bytes = 0

    def __call__(self, position: int, content: bytes | None = None) -> Image.Image:
        """An image in mode "L" or "RGB", not to be changed; errors as in `decode`.

        `content` is the file's, where it was read already.
        """
        kept = self._kept.get(position)
        if kept is not None:
            return kept
        if content is None:
            content = read(self._images, position)
        image = decode_bytes(self._images, position, content)
        pixels = image.width * image.height
        # Pillow stores RGB in four bytes.
        size = pixels * (1 if image.mode == "L" else 4) + _OBJECT_BYTES
        if pixels <= _KEPT_PIXELS and self._bytes + size <= _KEPT_BYTES:
            self._kept[position] = image
            self._bytes += size
        return image
