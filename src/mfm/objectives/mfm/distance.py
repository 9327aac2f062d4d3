"""The distance between two spectra on the removed frequencies, with its gradient in closed form.

An image that keeps its low frequencies lost nearly all others, and one half-spectrum transform
gives them. One that keeps its high frequencies lost the few inside the disc, which products with
few waves give. The gradient is the inverse transform of each frequency's direction, real and as
cheap as the transform, and it's taken while the spectrum is at hand: automatic differentiation
would keep several arrays of the spectrum's size and transform back through a full complex one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mfm.objectives.mfm.frequency import (
    disc,
    from_half_spectrum,
    half_spectrum,
    multiplicity,
    waves,
)


def removed_distance(
    difference: Tensor, keep_low: Tensor, *, radius: float, epsilon: float
) -> Tensor:
    """Sum of sqrt(re^2 + im^2 + epsilon) over each image's removed frequencies and channels: [N].

    Arguments:
        difference: real [N, K, H, W], prediction less target.
        keep_low: bool [N]; True removed what is outside the disc, False what is inside. On the
            CPU, it spares a GPU the wait for it.
        radius: of the disc, in frequency bins.
        epsilon: makes the distance differentiable at zero.

    Differentiable once, with respect to `difference`.
    """
    total: Tensor = _RemovedDistance.apply(difference, keep_low, radius, epsilon)
    return total


def whole_distance(difference: Tensor, *, epsilon: float) -> Tensor:
    """`removed_distance` where nothing was kept: the sum over all frequencies and channels, [N]."""
    nothing = torch.ones(len(difference), dtype=torch.bool)  # inside a disc without a frequency
    return removed_distance(difference, nothing, radius=0.0, epsilon=epsilon)


class _RemovedDistance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, difference: Tensor, keep_low: Tensor, radius: float, epsilon: float
    ) -> Tensor:
        totals, gradient = _of_bands(difference, keep_low.to("cpu"), radius, epsilon)
        ctx.save_for_backward(gradient)
        return totals

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * weights.view(-1, 1, 1, 1), None, None, None


def _of_bands(
    difference: Tensor, keep_low: Tensor, radius: float, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Totals [N] and their gradients [N, K, H, W], each image's by what it lost."""
    bands = [
        (of_band, chosen.nonzero()[:, 0])
        for of_band, chosen in ((_outside, keep_low), (_inside, ~keep_low))
        if chosen.any()
    ]
    if len(bands) == 1:
        return bands[0][0](difference.contiguous(), radius, epsilon)
    # Images are gathered, never scattered: on a GPU, scattering in a fixed order sorts first.
    device = difference.device
    found = [
        of_band(difference[images.to(device, non_blocking=True)].contiguous(), radius, epsilon)
        for of_band, images in bands
    ]
    places = torch.cat([images for _, images in bands]).argsort().to(device, non_blocking=True)
    totals, gradients = (torch.cat(parts)[places] for parts in zip(*found, strict=True))
    return totals, gradients


def _outside(difference: Tensor, radius: float, epsilon: float) -> tuple[Tensor, Tensor]:
    """Totals [n] outside the disc, and their gradients [n, K, H, W]."""
    height, width = difference.shape[-2:]
    spectrum = half_spectrum(difference)
    outside = ~disc(height, width, radius, difference.device)
    times = outside * multiplicity(width, difference.device, difference.dtype)
    distances = _distances(spectrum, epsilon)
    totals = distances.flatten(2) @ times.flatten()
    # The inverse transform completes the half spectrum by itself: no multiplicity here.
    return totals.sum(dim=1), from_half_spectrum(spectrum.mul_(outside / distances), width=width)


def _inside(difference: Tensor, radius: float, epsilon: float) -> tuple[Tensor, Tensor]:
    """Totals [n] inside the disc, and their gradients [n, K, H, W]."""
    height, width = difference.shape[-2:]
    basis = waves(height, width, radius, difference.device, difference.dtype)
    spectrum = basis.spectrum(basis.coefficients(difference))
    distances = _distances(spectrum, epsilon)
    totals = distances.flatten(2) @ basis.times.flatten()
    coefficients = basis.from_spectrum(spectrum * (basis.times / distances))
    return totals.sum(dim=1), basis.images(coefficients, layout=torch.contiguous_format)


def _distances(spectrum: Tensor, epsilon: float) -> Tensor:
    squares = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return squares.add_(epsilon).sqrt_()
