"""Decoding, cropping and batching with Pillow and torch's DataLoader; with DALI, see `.dali`.

A dataset item is a whole micro-batch: the random parameters of its images are drawn at once, and
each image is decoded, cropped, resized and augmented as uint8. Conversion to float is left to the
device.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from mfm.data.linking.manifest import Images
from mfm.data.loading.augment import PIL_FILTERS, KeyedRandAugment, plan_crops
from mfm.data.loading.decoding import Decoder
from mfm.data.settings import Crop, RandAugment
from mfm.errors import UserError, explain
from mfm.numerics.draws import Ints, of_views
from mfm.processes import shared_memory

# Epoch, positions; the second of an image that stands twice in a row is another view of it.
Request = tuple[int, Ints]
Pixels = npt.NDArray[np.uint8]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """Images of one micro-batch."""

    images: Tensor  # uint8 [n, C, H, W], channels last in memory
    labels: Tensor  # int64 [n]
    positions: Tensor  # int64 [n], in the Images they were read from

    def share(self) -> None:
        """Move to shared memory, as a worker's queue would: there, an error is lost in a thread.

        Raises UserError where it doesn't fit, and OSError for too many open files.
        """
        try:
            for tensor in (self.images, self.labels, self.positions):
                tensor.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if os.strerror(errno.EMFILE) in str(error):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
            raise UserError(shared_memory.REFUSAL) from None

    def pin_memory(self) -> Batch:
        """Called by the DataLoader where batches go to a GPU."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.positions)

    def to(self, device: torch.device) -> Batch:
        """Move images and labels to the device, without waiting for it."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.positions,
        )

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of images and labels until what is queued on another stream is done."""
        self.images.record_stream(stream)
        self.labels.record_stream(stream)


def to_float(images: Tensor) -> Tensor:
    """uint8 [n, C, H, W] to float32 in [0, 1], layout kept."""
    return images.float().div_(255)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How n images become squares of `size` pixels: int64, in pixels; flip bool [n].

    A box is cut from each source and resized, the square is cut from that, and flipped or not.
    """

    size: int
    boxes: Ints  # [n, 4]: left, top, right, bottom in the source
    resized: Ints  # [n, 2]: width, height of the resized box
    corners: Ints  # [n, 2]: left, top of the square in the resized box
    flip: npt.NDArray[np.bool_]


class ByRequest(Dataset[Made | UserError], ABC, Generic[Made]):
    """What is made for each request, in a loader's workers.

    An error is returned and not raised: torch would wrap it in a worker's traceback.
    """

    def __getitem__(self, request: Request) -> Made | UserError:
        try:
            made = self.batch(request)
            if isinstance(made, Batch) and get_worker_info() is not None:
                made.share()
            return made
        except (UserError, OSError) as error:
            if (told := explain(error)) is None:
                raise
            return UserError(told)

    @abstractmethod
    def batch(self, request: Request) -> Made:
        """What was asked for; raises UserError for an unreadable image."""


class Batches(ByRequest[Batch], ABC):
    """Micro-batches, decoded and resized by Pillow."""

    def __init__(self, images: Images, *, interpolation: str, augments: bool = False) -> None:
        self.images = images
        self.interpolation = interpolation
        self.augments = augments  # whether `augment` does anything
        self._decode = Decoder(images)

    @abstractmethod
    def geometry(self, request: Request) -> Geometry:
        """Where the requested images' pixels go, whatever decodes them."""

    def augment(self, request: Request, pixels: Pixels) -> None:
        """Change the cropped images, uint8 [n, size, size, C], in place."""

    def batch(self, request: Request) -> Batch:
        """The requested images: [n, C, size, size]."""
        _, positions = request
        geometry = self.geometry(request)
        channels = self.images.reading.out_channels
        pixels = np.empty((len(positions), geometry.size, geometry.size, channels), np.uint8)
        decoded = -1
        for i, (position, box, resized, (left, top), flip) in enumerate(
            zip(
                positions.tolist(),
                geometry.boxes.tolist(),
                geometry.resized.tolist(),
                geometry.corners.tolist(),
                geometry.flip.tolist(),
                strict=True,
            )
        ):
            if position != decoded:  # and no other view of the last image
                source, decoded = self._decode(position), position
            for channel, plane in enumerate(source):
                image = plane if box == [0, 0, *plane.size] else plane.crop(box)
                image = image.resize(resized, PIL_FILTERS[self.interpolation])
                if resized != [geometry.size] * 2:
                    image = image.crop((left, top, left + geometry.size, top + geometry.size))
                if flip:
                    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                square = np.asarray(image)
                if len(source) > 1:
                    pixels[i, ..., channel] = square
                else:
                    pixels[i] = square if square.ndim == 3 else square[..., None]  # grey
        self.augment(request, pixels)
        return make_batch(pixels, self.images, positions)


class TrainBatches(Batches):
    """Micro-batches of randomly cropped, flipped and augmented training images."""

    def __init__(
        self,
        images: Images,
        *,
        crop: Crop,
        size: int,
        seed: int,
        randaugment: RandAugment | None = None,
    ) -> None:
        super().__init__(images, interpolation=crop.interpolation, augments=randaugment is not None)
        self._crop = crop
        self._size = size
        self._seed = seed
        self._randaugment = (
            KeyedRandAugment(randaugment, interpolation=crop.interpolation, seed=seed, size=size)
            if randaugment
            else None
        )

    def geometry(self, request: Request) -> Geometry:
        """Random resized crops by (seed, epoch, image, view)."""
        epoch, positions = request
        crops = plan_crops(
            self._crop,
            seed=self._seed,
            epoch=epoch,
            indices=self._indices(positions),
            widths=self.images.widths[positions],
            heights=self.images.heights[positions],
        )
        left, top = crops.left, crops.top
        return Geometry(
            size=self._size,
            boxes=np.stack([left, top, left + crops.width, top + crops.height], axis=1),
            resized=np.full((len(positions), 2), self._size),
            corners=np.zeros((len(positions), 2), np.int64),
            flip=crops.flip,
        )

    def augment(self, request: Request, pixels: Pixels) -> None:
        """RandAugment, keyed by (seed, epoch, image, view)."""
        if self._randaugment is None:
            return
        epoch, positions = request
        keys = self._randaugment.keys(epoch=epoch, indices=self._indices(positions))
        for i, key in enumerate(keys):
            pixels[i] = np.asarray(self._randaugment(Image.fromarray(pixels[i]), key))

    def _indices(self, positions: Ints) -> Ints:
        """What the draws of the requested views are keyed by."""
        return of_views(self.images.rows[positions], numbers_of_views(positions))


class EvalBatches(Batches):
    """Whole images: short side resized, centre cropped."""

    def __init__(self, images: Images, *, resize: int, crop: int, interpolation: str) -> None:
        super().__init__(images, interpolation=interpolation)
        self._resize = resize
        self._crop = crop

    def geometry(self, request: Request) -> Geometry:
        """The same for every epoch."""
        _, positions = request
        sides = np.stack([self.images.widths[positions], self.images.heights[positions]], axis=1)
        # As torchvision's Resize: the long side is cut to a whole number, not rounded.
        resized = (self._resize * sides / sides.min(axis=1, keepdims=True)).astype(np.int64)
        return Geometry(
            size=self._crop,
            boxes=np.concatenate([np.zeros_like(sides), sides], axis=1),
            resized=resized,
            corners=np.rint((resized - self._crop) / 2).astype(np.int64),
            flip=np.zeros(len(positions), np.bool_),
        )


def numbers_of_views(positions: Ints) -> Ints:
    """Number of each view, where an image's stand in a row: 0, 0, 0, or 0, 1, 0, 1: [n]."""
    places = np.arange(len(positions))
    begins = np.diff(positions, prepend=-1) != 0
    return places - np.maximum.accumulate(np.where(begins, places, 0))


def make_batch(pixels: Pixels, images: Images, positions: Ints) -> Batch:
    """A batch of cropped images: pixels uint8 [n, size, size, C]."""
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.from_numpy(images.labels[positions]),
        torch.from_numpy(np.asarray(positions, np.int64)),
    )
