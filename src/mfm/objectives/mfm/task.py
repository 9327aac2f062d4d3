"""Mathematics of masked frequency modeling, in both published recipes.

Source: arXiv 2206.07706, sections 3.1 to 3.3; where the two released codes differ is said there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mfm.numerics import pixels
from mfm.objectives.mfm.distance import removed_distance
from mfm.objectives.mfm.frequency import frequencies_inside, keep_band

Recipe = Literal["upstream", "paper"]
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class _Constants:
    """Where the two released codes differ."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    epsilon: float  # inside the square root of the distance, so its gradient exists at zero


_RECIPES: dict[str, _Constants] = {
    # https://github.com/CoinCheung/MFM
    "upstream": _Constants(mean=(0.4,) * 3, std=(0.2,) * 3, epsilon=1e-7),
    # https://github.com/Jiahao000/MFM
    "paper": _Constants(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), epsilon=1e-12),
}


def normalisation(recipe: Recipe) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of a recipe, for images in [0, 1]."""
    return _RECIPES[recipe].mean, _RECIPES[recipe].std


class MaskedFrequencyModeling:
    """Hide a band of frequencies of each image; compare a prediction on the hidden ones.

    Arguments:
        recipe: 'upstream' (unofficial reproduction) or 'paper' (official code). They differ in
            normalisation, target, distance and reduction.
        radius: radius of the low-pass disc in frequency bins, above 0.
        low_pass_share: probability that an image keeps its low frequencies, in [0, 1]. The paper
            uses 0.5 for ViT and 0.3 for ResNet; upstream 0.5.
        channels: of the images. Where they aren't three, each is normalised with the mean of the
            recipe's three numbers, and luminance is the mean of all channels.

    Raises:
        ValueError: an unknown recipe, a radius that isn't positive, a share outside [0, 1].

    Source: paper sections 3.1-3.3; constants from the two released codes.
    """

    def __init__(
        self,
        *,
        recipe: Recipe = "upstream",
        radius: float = 16.0,
        low_pass_share: float = 0.5,
        channels: int = 3,
    ) -> None:
        if recipe not in _RECIPES:
            raise ValueError(f"recipe is 'upstream' or 'paper', not {recipe!r}")
        if not radius > 0:
            raise ValueError(f"radius is above 0, not {radius}")
        if not 0 <= low_pass_share <= 1:
            raise ValueError(f"low_pass_share is in [0, 1], not {low_pass_share}")
        self.recipe: Recipe = recipe
        self.radius = float(radius)
        self.low_pass_share = float(low_pass_share)
        self.channels = channels
        self._constants = _RECIPES[recipe]

    @property
    def out_channels(self) -> int:
        """Channels of the prediction: 1 (luminance, upstream) or the images' own (paper)."""
        return self.channels if self.recipe == "paper" else 1

    def sample_keep_low(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Which of n images keep their low frequencies: bool [n]."""
        return torch.rand(n, generator=generator) < self.low_pass_share

    def normalise(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1] minus the recipe's mean, over its deviation."""
        return pixels.normalise(images, mean=self._constants.mean, std=self._constants.std)

    def corrupt(self, images: Tensor, keep_low: Tensor) -> Tensor:
        """The network's input: one band of each image.

        Arguments:
            images: float32 (or float64) [N, C, H, W] in [0, 1].
            keep_low: bool [N]; True keeps the disc, False keeps the rest.

        Returns: [N, C, H, W] of the images' dtype, normalised.

        Raises: ValueError where the disc covers every frequency of the image.
        """
        self._check(images, keep_low)
        keep_low = keep_low.to(images.device, non_blocking=True)
        with torch.autocast(images.device.type, enabled=False):
            if self.recipe == "upstream":
                # Upstream filters the normalised image and feeds the modulus of the complex
                # result; the filtered image is real, so its modulus is its absolute value.
                return keep_band(self.normalise(images), keep_low, self.radius).abs_()
            # The paper's code filters the image in [0, 1], clamps, and normalises after that.
            return self.normalise(keep_band(images, keep_low, self.radius).clamp_(0, 1))

    def target(self, images: Tensor) -> Tensor:
        """What is predicted: [N, out_channels, H, W], normalised luminance or all channels."""
        if self.recipe == "paper":
            return self.normalise(images)
        if self.channels != 3:
            return self.normalise(images).mean(dim=1, keepdim=True)
        # Luminance of (image - mean) / std, as one weight per channel and a shift.
        mean, std = self._constants.mean, self._constants.std
        red, green, blue = (share / s for share, s in zip(LUMINANCE, std, strict=True))
        shift = red * mean[0] + green * mean[1] + blue * mean[2]
        target = images[:, :1] * red - shift
        return target.add_(images[:, 1:2], alpha=green).add_(images[:, 2:], alpha=blue)

    def image_losses(self, prediction: Tensor, images: Tensor, keep_low: Tensor) -> Tensor:
        """Mean distance over each image's removed frequencies and channels: [N]."""
        self._check(images, keep_low)
        if prediction.shape != (len(images), self.out_channels, *images.shape[2:]):
            raise ValueError(
                f"prediction has shape {tuple(prediction.shape)}, expected "
                f"{(len(images), self.out_channels, *images.shape[2:])}"
            )
        height, width = images.shape[-2:]
        with torch.autocast(images.device.type, enabled=False):
            # Half-precision transforms exist on CUDA only, for powers of two only; and the
            # distances span several orders of magnitude. So: the images' dtype, float32 or wider.
            # The transform is linear: one of the difference replaces one of each.
            difference = prediction.to(images.dtype) - self.target(images)
            totals = removed_distance(
                difference, keep_low, radius=self.radius, epsilon=self._constants.epsilon
            )
            counts = self._removed(keep_low, height, width) * self.out_channels
            return totals / counts.to(totals, non_blocking=True)

    def image_weights(self, keep_low: Tensor, *, height: int, width: int) -> Tensor:
        """Weight of each image in the batch's loss: float64 [N].

        Upstream averages over images: 1 each. The paper's code divides one sum over the batch by
        the batch's number of removed frequencies, so an image weighs as many as it lost.
        """
        if self.recipe == "upstream":
            return torch.ones(len(keep_low), dtype=torch.float64)
        return self._removed(keep_low, height, width)

    def _removed(self, keep_low: Tensor, height: int, width: int) -> Tensor:
        """Number of frequencies that each image lost: float64 [N], on the CPU."""
        inside = frequencies_inside(height, width, self.radius)
        keep = keep_low.to("cpu")
        return torch.where(keep, height * width - inside, inside).double()

    def loss(self, prediction: Tensor, images: Tensor, keep_low: Tensor) -> Tensor:
        """The batch's loss: a differentiable scalar.

        Arguments:
            prediction: [N, out_channels, H, W], any float dtype.
            images: float32 (or float64) [N, C, H, W] in [0, 1].
            keep_low: bool [N], as given to `corrupt`.
        """
        losses = self.image_losses(prediction, images, keep_low)
        weights = self.image_weights(keep_low, height=images.shape[2], width=images.shape[3])
        return (losses * (weights / weights.sum()).to(losses)).sum()

    def _check(self, images: Tensor, keep_low: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise ValueError(f"images are [N, {self.channels}, H, W], not {tuple(images.shape)}")
        if images.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"images are float32 in [0, 1], not {images.dtype}")
        if keep_low.dtype != torch.bool or keep_low.shape != (len(images),):
            raise ValueError(f"keep_low is bool [{len(images)}], not {tuple(keep_low.shape)}")
        height, width = images.shape[-2:]
        if frequencies_inside(height, width, self.radius) == height * width:
            raise ValueError(
                f"radius {self.radius} covers every frequency of a {height}x{width} image"
            )
