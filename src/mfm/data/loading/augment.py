"""Random crops, RandAugment and mixing, from keyed draws."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import InterpolationMode

from mfm.data.settings import IMAGENET_MEAN, Crop, RandAugment
from mfm.numerics.draws import Floats, Ints, Stream, hashes, uniforms

_CROP_TRIES = 10
_CROP_DRAWS = 4 * _CROP_TRIES + 1

PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class CropPlan:
    """Crops of a batch, in source pixels: int64 [n] each; flip bool [n]."""

    left: Ints
    top: Ints
    width: Ints
    height: Ints
    flip: np.ndarray


def plan_crops(
    crop: Crop,
    *,
    seed: int,
    epoch: int,
    indices: Ints,
    widths: Ints,
    heights: Ints,
    stream: Stream = Stream.CROP,
) -> CropPlan:
    """Random resized crops as torchvision's RandomResizedCrop draws them.

    Ten tries of (area, log aspect), the first that fits the image is used at a uniform position;
    if none fits, the largest centred crop within the aspect range.
    """
    draws = uniforms(seed=seed, epoch=epoch, stream=stream, indices=indices, n=_CROP_DRAWS)
    tries: Floats = draws[:, :-1].reshape(len(indices), 4, _CROP_TRIES)
    area = (widths * heights)[:, None] * (crop.area[0] + tries[:, 0] * np.ptp(crop.area))
    log_low, log_high = np.log(crop.aspect)
    aspect = np.exp(log_low + tries[:, 1] * (log_high - log_low))
    width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
    left = np.floor(tries[:, 2] * (widths[:, None] - width + 1)).astype(np.int64)
    top = np.floor(tries[:, 3] * (heights[:, None] - height + 1)).astype(np.int64)

    chosen = (np.arange(len(indices)), np.argmax(fits, axis=1))
    plan = {"left": left[chosen], "top": top[chosen], "width": width[chosen]}
    plan["height"] = height[chosen]

    ratio = widths / heights
    central_width = np.where(
        ratio > crop.aspect[1], np.rint(heights * crop.aspect[1]), widths
    ).astype(np.int64)
    central_height = np.where(
        ratio < crop.aspect[0], np.rint(widths / crop.aspect[0]), heights
    ).astype(np.int64)
    central_width, central_height = np.maximum(central_width, 1), np.maximum(central_height, 1)
    central = {
        "left": (widths - central_width) // 2,
        "top": (heights - central_height) // 2,
        "width": central_width,
        "height": central_height,
    }
    none_fits = ~fits.any(axis=1)
    return CropPlan(
        **{name: np.where(none_fits, central[name], plan[name]) for name in plan},
        flip=draws[:, -1] < crop.flip,
    )


def erase(images: Tensor, *, probability: float, seed: int, epoch: int, rows: Ints) -> None:
    """Random erasing, in place: a rectangle of some normalised images becomes Gaussian noise.

    images: float32 [n, 3, H, W]; rows: [n], what the draws are keyed by. The rectangle has 2 to 33%
    of the image's area and an aspect of 0.3 to 1/0.3, and each of its pixels and channels is drawn
    from N(0, 1), as in timm with mode 'pixel'.
    """
    height, width = images.shape[-2:]
    # A rectangle is drawn like a crop; `flip` says which images have one.
    plan = plan_crops(
        Crop(area=(0.02, 1 / 3), aspect=(0.3, 1 / 0.3), flip=probability),
        seed=seed,
        epoch=epoch,
        indices=rows,
        widths=np.full(len(rows), width),
        heights=np.full(len(rows), height),
        stream=Stream.ERASE,
    )
    keys = hashes(seed=seed, epoch=epoch, stream=Stream.ERASE_NOISE, indices=rows)[:, 0]
    for i in np.flatnonzero(plan.flip):
        left, top = int(plan.left[i]), int(plan.top[i])
        right, bottom = left + int(plan.width[i]), top + int(plan.height[i])
        # On the host, so that a GPU gives the same numbers.
        generator = torch.Generator().manual_seed(int(keys[i]) >> 1)
        noise = torch.randn(images.shape[1], bottom - top, right - left, generator=generator)
        images[i, :, top:bottom, left:right] = noise.to(images.device, non_blocking=True)


def _posterize(
    posterize: Callable[..., Image.Image], image: Image.Image, bits: int, **more: Any
) -> Image.Image:
    """timm's operation. The largest magnitude keeps no bit, which today's Pillow refuses."""
    return posterize(image, bits, **more) if bits else Image.new(image.mode, image.size)


@contextmanager
def _key_torch(key: int) -> Iterator[None]:
    """torch's global generator, from which torchvision draws, keyed for a while.

    That of the CPU alone: `torch.manual_seed` notes a stack trace for each kind of device that
    isn't there, which takes longer than to augment a small image.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(key)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def _key_timm(key: int) -> Iterator[None]:
    """Python's and numpy's global generators, from which timm draws, keyed for a while."""
    # timm draws from numpy's old global generator and takes no other, hence NPY002.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(key)
    np.random.seed([key & 0xFFFFFFFF, key >> 32])  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


class KeyedRandAugment:
    """RandAugment, with its random numbers keyed by (seed, epoch, image).

    `size` is the images' side in pixels, of which timm's shifts are shares.
    """

    def __init__(
        self, settings: RandAugment, *, interpolation: str, seed: int, size: int = 224
    ) -> None:
        self._seed = seed
        self._transform: Any
        if settings.kind == "timm":
            from timm.data.auto_augment import rand_augment_transform  # takes a while

            text = f"rand-m{settings.magnitude}-n{settings.ops}-mstd{settings.magnitude_std}"
            self._transform = rand_augment_transform(
                f"{text}-inc{settings.increasing:d}",
                {
                    "translate_const": int(size * 0.45),
                    "img_mean": tuple(round(255 * mean) for mean in IMAGENET_MEAN),
                    "interpolation": PIL_FILTERS[interpolation],
                },
            )
            for operation in self._transform.ops:
                if operation.name.startswith("Posterize"):
                    operation.aug_fn = partial(_posterize, operation.aug_fn)
        else:
            self._transform = v2.RandAugment(
                num_ops=settings.ops,
                magnitude=settings.magnitude,
                num_magnitude_bins=settings.bins,
                interpolation=InterpolationMode(interpolation),
            )
        self._keyed = _key_timm if settings.kind == "timm" else _key_torch

    def keys(self, *, epoch: int, indices: Ints) -> list[int]:
        """One key for each image: in [0, 2**63)."""
        words = hashes(seed=self._seed, epoch=epoch, stream=Stream.AUGMENT, indices=indices)
        return [int(word) >> 1 for word in words[:, 0]]

    def __call__(self, image: Image.Image, key: int) -> Image.Image:
        """Augment an RGB image; the same key, the same result."""
        with self._keyed(key):
            augmented: Image.Image = self._transform(image)
        return augmented


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How a step mixes each image with its neighbour.

    Positions 2k and 2k+1 of the global batch are partners, so partners always sit in one rank and
    one micro-batch and the result does not depend on how many there are of either.
    """

    share: float  # of the image itself, in [0, 1]
    box: tuple[float, float, float, float] | None  # cutmix: left, top, right, bottom in [0, 1]

    def images(self, images: Tensor) -> Tensor:
        """Mixed images: [n, C, H, W], n even."""
        partners = swap_neighbours(images)
        if self.box is None:
            return images * self.share + partners * (1 - self.share)
        height, width = images.shape[-2:]
        left, right = (round(self.box[i] * width) for i in (0, 2))
        top, bottom = (round(self.box[i] * height) for i in (1, 3))
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return mixed

    def targets(self, targets: Tensor, *, size: int) -> Tensor:
        """Mixed targets: [n, classes]; `size` is the images' side in pixels."""
        share = self.share
        if self.box is not None:
            # The box is clipped by the border and rounded to pixels: count what was pasted.
            left, top, right, bottom = (round(edge * size) for edge in self.box)
            share = 1 - (right - left) * (bottom - top) / size**2
        return targets * share + swap_neighbours(targets) * (1 - share)


def swap_neighbours(values: Tensor) -> Tensor:
    """Positions 2k and 2k+1 exchanged: [n, ...], n even."""
    pairs = values.reshape(-1, 2, *values.shape[1:])
    return pairs.flip(1).reshape(values.shape)


def plan_mix(*, mixup: float, cutmix: float, seed: int, epoch: int, step: int) -> Mix | None:
    """Mixup or cutmix of one step (one of them, evenly, where both are on), or None."""
    if not mixup and not cutmix:
        return None
    draws = uniforms(
        seed=seed, epoch=epoch, stream=Stream.MIX, indices=np.array([step], np.int64), n=4
    )[0]
    use_cutmix = bool(cutmix) and (not mixup or draws[0] < 0.5)
    alpha = cutmix if use_cutmix else mixup
    from scipy.special import betaincinv  # takes a while, and only mixing needs it

    share = float(betaincinv(alpha, alpha, draws[1]))
    if not use_cutmix:
        return Mix(share=share, box=None)
    half = 0.5 * np.sqrt(1 - share)
    x, y = draws[2], draws[3]
    return Mix(
        share=share,
        box=(
            float(max(x - half, 0)),
            float(max(y - half, 0)),
            float(min(x + half, 1)),
            float(min(y + half, 1)),
        ),
    )
