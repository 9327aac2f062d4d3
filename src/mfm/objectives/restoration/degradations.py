"""Degradations of images [N, 3, H, W] in [0, 1], in batch, on their device.

Numbers: the paper's official code (github.com/Jiahao000/MFM, commit c9194b1), files as named below.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mfm.numerics.draws import Ints, Stream, hashes, uniforms
from mfm.numerics.noise import normals_like


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What the random numbers of some images depend on."""

    seed: int
    epoch: int
    rows: Ints  # [N]


Degradation = Callable[[Tensor, Keys], Tensor]


def nothing(images: Tensor, keys: Keys) -> Tensor:
    """The images themselves."""
    return images


def coarsen(images: Tensor, keys: Keys, *, factor: int) -> Tensor:
    """Images downsampled by a factor that divides their sides, and up again.

    Bicubic without antialiasing, clamped to [0, 1] after each (models/mfm.py:
    interpolate_transform; config.py: SR_FACTOR 8, INTERPOLATION bicubic).
    """
    height, width = images.shape[-2:]
    for size in ((height // factor, width // factor), (height, width)):
        images = F.interpolate(images, size=size, mode="bicubic", align_corners=False).clamp_(0, 1)
    return images


def blur(images: Tensor, keys: Keys, *, sigma: float, sides: Sequence[int]) -> Tensor:
    """Images convolved with a Gaussian, cut off at one of some odd sides, drawn evenly for each.

    The kernel's sum is 1, and the image goes on as its mirror image around its outermost pixels
    (data/blur_kernels.py: bivariate_gaussian; data/random_degradations.py: cv2.filter2D's default).
    """
    draws = uniforms(seed=keys.seed, epoch=keys.epoch, stream=Stream.BLUR, indices=keys.rows)
    which = torch.from_numpy((draws[:, 0] * len(sides)).astype("int64"))
    which = which.to(images.device, non_blocking=True)
    n, channels, height, width = images.shape
    sides = tuple(sides)
    # A square piece of an isotropic Gaussian is a product: a blur along each axis, each a matrix.
    rows = _blurs(height, sigma, sides, images.device, images.dtype)[which]
    columns = _blurs(width, sigma, sides, images.device, images.dtype)[which]
    lines = images.permute(0, 2, 3, 1).reshape(n, height, width * channels)
    once = (rows @ lines).view(n, height, width, channels).transpose(1, 2)
    twice = columns @ once.reshape(n, width, height * channels)
    return twice.view(n, width, height, channels).permute(0, 3, 2, 1)


@functools.lru_cache(maxsize=32)
def _blurs(
    size: int, sigma: float, sides: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Blur along an axis of `size` points with each side: [len(sides), size, size]."""
    # The cached matrices outlive an inference_mode that they may be asked for in.
    with torch.inference_mode(False):
        blurs = torch.zeros(len(sides), size, size, dtype=torch.float64)
        points = torch.arange(size)
        for matrix, side in zip(blurs, sides, strict=True):
            taps = torch.arange(side) - side // 2
            weights = torch.exp(-0.5 * (taps / sigma).double().square())
            for tap, weight in zip(taps.tolist(), (weights / weights.sum()).tolist(), strict=True):
                seen = (points + tap).abs()
                seen = torch.where(seen < size, seen, 2 * (size - 1) - seen)
                matrix[points, seen] += weight
        return blurs.to(device, dtype)


def add_noise(images: Tensor, keys: Keys, *, sigma: float) -> Tensor:
    """Images plus Gaussian noise for each pixel and channel, sigma in the images' unit.

    Not clamped, as in the official code (data/random_degradations.py: _apply_gaussian_noise;
    configs/*/denoise_pretrain*.yaml: sigma 75 of 255, no grey noise).
    """
    words = hashes(seed=keys.seed, epoch=keys.epoch, stream=Stream.NOISE, indices=keys.rows)[:, 0]
    return normals_like(images, words).mul_(sigma).add_(images)
