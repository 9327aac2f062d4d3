"""Decoding, cropping and batching with Pillow and torch's DataLoader.

A dataset item is a whole micro-batch: the random parameters of its images are drawn at once, and
each image is decoded, cropped, resized and augmented as uint8. Conversion to float is left to the
device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mfm import config
from mfm.augment import PIL_FILTERS, RandAugment, plan_crops
from mfm.data.manifest import Images
from mfm.data.plan import Plan, Step
from mfm.draws import Ints
from mfm.errors import UserError
from mfm.lifetime import leave_signals_to_parent

Request = tuple[int, Ints]  # epoch, positions


@dataclass(frozen=True)
class Batch:
    """Images of one micro-batch."""

    images: Tensor  # uint8 [n, 3, H, W], channels last in memory
    labels: Tensor  # int64 [n]
    positions: Tensor  # int64 [n], in the Images they were read from

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


def to_float(images: Tensor) -> Tensor:
    """uint8 [n, 3, H, W] to float32 in [0, 1], layout kept."""
    return images.float().div_(255)


def decode(images: Images, position: int) -> Image.Image:
    """One image as Pillow's RGB conversion gives it: any mode, EXIF rotation not applied."""
    path = images.path(position)
    try:
        with Image.open(path) as image:
            size = int(images.widths[position]), int(images.heights[position])
            if image.size != size:
                raise UserError(
                    f"{path} was {size[0]}x{size[1]} pixels when the dataset was linked and is "
                    f"{image.width}x{image.height} now; run with --forcerun link_dataset"
                )
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"unreadable image {path}: {error}; repair or remove it") from None


class _Batches(Dataset[Batch | UserError], ABC):
    """Micro-batches by request.

    An error is returned and not raised: torch would wrap it in a worker's traceback.
    """

    def __getitem__(self, request: Request) -> Batch | UserError:
        try:
            return self.batch(request)
        except UserError as error:
            return error

    @abstractmethod
    def batch(self, request: Request) -> Batch:
        """The requested micro-batch; raises UserError for an unreadable image."""


class TrainBatches(_Batches):
    """Micro-batches of randomly cropped, flipped and augmented training images."""

    def __init__(
        self,
        images: Images,
        *,
        crop: config.Crop,
        size: int,
        seed: int,
        randaugment: config.RandAugment | None = None,
    ) -> None:
        self._images = images
        self._crop = crop
        self._size = size
        self._seed = seed
        self._augment = (
            RandAugment(randaugment, interpolation=crop.interpolation, seed=seed)
            if randaugment
            else None
        )

    def batch(self, request: Request) -> Batch:
        """The requested images, cropped to [n, 3, size, size]."""
        epoch, positions = request
        rows = self._images.rows[positions]
        crops = plan_crops(
            self._crop,
            seed=self._seed,
            epoch=epoch,
            indices=rows,
            widths=self._images.widths[positions],
            heights=self._images.heights[positions],
        )
        keys = self._augment.keys(epoch=epoch, indices=rows) if self._augment else []
        pixels = np.empty((len(positions), self._size, self._size, 3), np.uint8)
        for i, position in enumerate(positions):
            left, top = int(crops.left[i]), int(crops.top[i])
            right, bottom = left + int(crops.width[i]), top + int(crops.height[i])
            image = decode(self._images, int(position)).crop((left, top, right, bottom))
            image = image.resize((self._size,) * 2, PIL_FILTERS[self._crop.interpolation])
            if crops.flip[i]:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if self._augment:
                image = self._augment(image, keys[i])
            pixels[i] = np.asarray(image)
        return _batch(pixels, self._images, positions)


class EvalBatches(_Batches):
    """Whole images: short side resized, centre cropped."""

    def __init__(self, images: Images, *, resize: int, crop: int, interpolation: str) -> None:
        self._images = images
        self._resize = resize
        self._crop = crop
        self._interpolation = interpolation

    def batch(self, request: Request) -> Batch:
        """The requested images, cropped to [n, 3, crop, crop]."""
        _, positions = request
        pixels = np.empty((len(positions), self._crop, self._crop, 3), np.uint8)
        for i, position in enumerate(positions):
            image = decode(self._images, int(position))
            # As torchvision's Resize: the long side is cut to a whole number, not rounded.
            short = min(image.size)
            width, height = (int(self._resize * side / short) for side in image.size)
            image = image.resize((width, height), PIL_FILTERS[self._interpolation])
            left, top = round((width - self._crop) / 2), round((height - self._crop) / 2)
            image = image.crop((left, top, left + self._crop, top + self._crop))
            pixels[i] = np.asarray(image)
        return _batch(pixels, self._images, positions)


def _batch(pixels: npt.NDArray[np.uint8], images: Images, positions: Ints) -> Batch:
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.from_numpy(images.labels[positions]),
        torch.from_numpy(np.asarray(positions, np.int64)),
    )


class _Requests(Sampler[Request]):
    """What the DataLoader asks its workers for; set anew for each pass."""

    def __init__(self) -> None:
        self._requests: Callable[[], Iterable[Request]] = lambda: ()

    def set(self, requests: Callable[[], Iterable[Request]]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests())


def _begin_worker(number: int) -> None:
    leave_signals_to_parent()


class Loader:
    """Batches in a given order. Workers live as long as the loader.

    Workers only speed it up: everything random is a function of (seed, epoch, image).
    """

    def __init__(self, batches: _Batches, *, workers: int, device: torch.device) -> None:
        self._requests = _Requests()
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=self._requests,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=device.type == "cuda",
            worker_init_fn=_begin_worker,
        )

    def read(self, requests: Callable[[], Iterable[Request]]) -> Iterator[Batch]:
        """One pass over the given requests."""
        self._requests.set(requests)
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def train(self, plan: Plan, epoch: int, first_step: int) -> Iterator[tuple[Step, list[Batch]]]:
        """Steps of an epoch with this rank's micro-batches."""
        batches = self.read(
            lambda: (
                (epoch, micro)
                for step in plan.epoch(epoch, first_step=first_step)
                for micro in step.micro_batches
            )
        )
        for step in plan.epoch(epoch, first_step=first_step):
            yield step, [next(batches) for _ in step.micro_batches]
