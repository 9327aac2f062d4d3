"""Corruptions of images [n, 3, H, W] in [0, 1], in batch, and how strong each is.

The six kinds and their five severities are those of D. Hendrycks and T. Dietterich, "Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019: at 32 px CIFAR-10-C's
numbers and at 224 px ImageNet-C's (github.com/hendrycks/robustness, commit 8190fe3,
ImageNet-C/create_c/make_cifar_c.py and make_imagenet_c.py).
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from mfm.data.loading.batches import to_float
from mfm.numerics.draws import Ints, Stream, hashes
from mfm.numerics.noise import normals_like

_SMALL, _LARGE = 32, 224  # sides of the images that the published numbers are for


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One kind: what is done, and its strength at each severity."""

    apply: Callable[[Tensor, Ints, float], Tensor]  # of images, their rows, and a strength
    small: tuple[float, ...]  # CIFAR-10-C's
    large: tuple[float, ...]  # ImageNet-C's

    def strength(self, severity: int, side: int) -> float:
        """At a severity from 1 to 5, for images of a side in pixels.

        Between the two published sizes the geometric mean, weighted by the side's logarithm; below
        and above them the nearer one's.
        """
        share = math.log(side / _SMALL) / math.log(_LARGE / _SMALL)
        share = min(1.0, max(0.0, share))
        small, large = self.small[severity - 1], self.large[severity - 1]
        return float(small ** (1 - share) * large**share)


def corrupt(images: Tensor, rows: Ints, *, kind: str, severity: int) -> Tensor:
    """The images at a severity from 1 to 5; at 0 as they are.

    What is random is drawn for each image by its row in the manifest, alike for every model.
    """
    if severity == 0:
        return images
    corruption = CORRUPTIONS[kind]
    return corruption.apply(images, rows, corruption.strength(severity, images.shape[-1]))


def _noise(images: Tensor, rows: Ints, sigma: float) -> Tensor:
    """Gaussian noise for each pixel and channel."""
    words = hashes(seed=0, epoch=0, stream=Stream.CORRUPTION, indices=rows)[:, 0]
    return normals_like(images, words).mul_(sigma).add_(images).clamp_(0, 1)


def _blur(images: Tensor, rows: Ints, share: float) -> Tensor:
    """A Gaussian blur, cut off at four standard deviations; its width as a share of the side."""
    side = images.shape[-1]
    sigma = share * side
    reach = min(side - 1, int(4 * sigma + 0.5))
    for size in ([2 * reach + 1, 1], [1, 2 * reach + 1]):  # along one axis, then along the other
        images = transforms.gaussian_blur(images, size, [sigma, sigma])
    return images.clamp(0, 1)


def _contrast(images: Tensor, rows: Ints, factor: float) -> Tensor:
    """Differences from the image's mean grey times a factor."""
    if images.shape[1] == 3:
        changed: Tensor = transforms.adjust_contrast(images, factor)
        return changed
    grey = images.mean(dim=(1, 2, 3), keepdim=True)
    return (grey + (images - grey) * factor).clamp_(0, 1)


def _brightness(images: Tensor, rows: Ints, added: float) -> Tensor:
    """Pixels times the factor that adds so much to one of 0.5."""
    if images.shape[1] == 3:
        changed: Tensor = transforms.adjust_brightness(images, 1 + 2 * added)
        return changed
    return (images * (1 + 2 * added)).clamp_(0, 1)


def _jpeg(images: Tensor, rows: Ints, quality: float) -> Tensor:
    """Images written as JPEG of a quality, and read again."""
    pixels = images.mul(255).round_().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    read = np.empty_like(pixels)
    for number, each in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(each).save(file, "JPEG", quality=round(quality))
        with Image.open(file) as image:
            read[number] = np.asarray(image)
    return to_float(torch.from_numpy(read).permute(0, 3, 1, 2)).to(images.device, images.dtype)


def _pixelation(images: Tensor, rows: Ints, share: float) -> Tensor:
    """Images made smaller, to a share of their side, and large again, without smoothing."""
    down_up = _boxes(images.shape[-1], share).to(images.device, images.dtype)
    return (down_up @ images @ down_up.T).clamp_(0, 1)


@functools.lru_cache(maxsize=32)
def _boxes(side: int, share: float) -> Tensor:
    """What Pillow's box filter makes of the pixels of a line, down and up again: [side, side]."""
    lines = Image.fromarray(np.eye(side, dtype=np.float32))  # each line has one pixel
    for width in (int(side * share), side):
        lines = lines.resize((width, side), Image.Resampling.BOX)
    # The cached matrix outlives an inference_mode that it may be asked for in.
    with torch.inference_mode(False):
        return torch.from_numpy(np.array(lines).T.copy())


CORRUPTIONS = {
    "noise": Corruption(
        apply=_noise, small=(0.04, 0.06, 0.08, 0.09, 0.10), large=(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    "blur": Corruption(
        apply=_blur,
        small=tuple(sigma / _SMALL for sigma in (0.4, 0.6, 0.7, 0.8, 1)),
        large=tuple(sigma / _LARGE for sigma in (1, 2, 3, 4, 6)),
    ),
    "contrast": Corruption(
        apply=_contrast, small=(0.75, 0.5, 0.4, 0.3, 0.15), large=(0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    "brightness": Corruption(
        apply=_brightness, small=(0.05, 0.1, 0.15, 0.2, 0.3), large=(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    "jpeg": Corruption(apply=_jpeg, small=(80, 65, 58, 50, 40), large=(25, 18, 15, 10, 7)),
    "pixelation": Corruption(
        apply=_pixelation, small=(0.95, 0.9, 0.85, 0.75, 0.65), large=(0.6, 0.5, 0.4, 0.3, 0.25)
    ),
}
