"""Distortions of views [N, 3, H, W] in [0, 1] beside crop and flip, on their device.

Numbers: google-research/simclr, commit 383d414, data_util.py. The four colour operations are
torchvision's, as in the paper's second listing of them (arXiv 2002.05709, appendix A). Those of
TensorFlow, in that file, take the contrast around each channel's mean and the saturation in HSV.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mfm.numerics.draws import Floats, Ints, Stream, uniforms
from mfm.objectives.mfm.frequency import layout_of

_JITTERED, _GREY = 0.8, 0.2  # probabilities
_SHARE, _TURN = 0.8, 0.2  # at strength 1: of brightness, contrast, saturation; of the hue
_SIGMA = (0.1, 2.0)
_GREY_WEIGHTS = (0.2989, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Colour jitter, grey and blur, each for some of the views."""

    jitter: float  # strength
    blur: float  # probability

    def __call__(self, images: Tensor, *, seed: int, epoch: int, indices: Ints) -> Tensor:
        """Distorted views, by (seed, epoch, index): float32, laid out as they were."""
        draws = uniforms(seed=seed, epoch=epoch, stream=Stream.VIEW, indices=indices, n=12)
        with torch.autocast(images.device.type, enabled=False):
            views = images.clone(memory_format=torch.contiguous_format)
            if self.jitter:
                self._jitter(views, draws[:, :9])
            _change(views, draws[:, 9] < _GREY, _grey)
            sigmas = _SIGMA[0] + draws[:, 11] * (_SIGMA[1] - _SIGMA[0])
            _change(views, draws[:, 10] < self.blur, _blur, sigmas)
            return views.contiguous(memory_format=layout_of(images))

    def _jitter(self, views: Tensor, draws: Floats) -> None:
        """Four operations in random order, each of random strength: draws [N, 9]."""
        chosen, order = draws[:, 0] < _JITTERED, np.argsort(draws[:, 1:5], axis=1)
        reach, turn = _SHARE * self.jitter, _TURN * self.jitter
        lowest = np.array([*[max(0.0, 1 - reach)] * 3, -turn])
        highest = np.array([*[1 + reach] * 3, turn])
        values = lowest + draws[:, 5:] * (highest - lowest)
        for place in order.T:
            for number, operation in enumerate((_brighten, _contrast, _saturate, _turn_hue)):
                _change(views, chosen & (place == number), operation, values[:, number])


def _change(
    views: Tensor,
    chosen: npt.NDArray[np.bool_],
    operation: Callable[..., Tensor],
    values: Floats | None = None,
) -> None:
    """Change the chosen views in place, each by its own value, where the operation takes one."""
    places = np.flatnonzero(chosen)
    if not len(places):
        return
    device = views.device
    where = torch.from_numpy(places).to(device, non_blocking=True)
    more = []
    if values is not None:
        column = torch.from_numpy(values[places]).to(views.dtype).view(-1, 1, 1, 1)
        more = [column.to(device, non_blocking=True)]
    views[where] = operation(views[where], *more)


def _grey(images: Tensor) -> Tensor:
    """Their luminance: [N, 1, H, W]."""
    red, green, blue = images.chunk(3, dim=1)
    return _GREY_WEIGHTS[0] * red + _GREY_WEIGHTS[1] * green + _GREY_WEIGHTS[2] * blue


def _brighten(images: Tensor, factors: Tensor) -> Tensor:
    return (images * factors).clamp_(0, 1)


def _contrast(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), factors)


def _saturate(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, _grey(images), factors)


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """The share `factors` of the images, the rest of the others."""
    return (images * factors + others * (1 - factors)).clamp_(0, 1)


def _turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Hues turned in HSV, 1 being all the way round."""
    red, green, blue = images.chunk(3, dim=1)
    top = images.amax(dim=1, keepdim=True)
    chroma = top - images.amin(dim=1, keepdim=True)
    over = torch.where(chroma > 0, chroma, 1)
    from_green = torch.where(top == green, (blue - red) / over + 2, (red - green) / over + 4)
    sixths = torch.where(top == red, (green - blue) / over, from_green) + 6 * turns
    parts = []
    for start in (5, 3, 1):  # red, green, blue
        far = (sixths + start) % 6
        parts.append(top - chroma * torch.minimum(far, 4 - far).clamp_(0, 1))
    return torch.cat(parts, dim=1)


def _blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussians of a tenth of the side, their sum 1; beyond the edges is black."""
    n, channels, height, width = images.shape
    reach = height // 10 // 2
    taps = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (taps / sigmas.view(-1, 1)).square())
    weights = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    lines = images.reshape(1, n * channels, height, width)
    kernels = weights.view(n * channels, 1, -1, 1)
    once = F.conv2d(lines, kernels, padding=(reach, 0), groups=n * channels)
    twice = F.conv2d(once, kernels.mT, padding=(0, reach), groups=n * channels)
    return twice.view(n, channels, height, width).clamp_(0, 1)
