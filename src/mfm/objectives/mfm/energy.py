"""Energy of images inside the mask's disc."""

from __future__ import annotations

import torch

from mfm.objectives.mfm.frequency import disc, half_spectrum, multiplicity


def energy_shares(images: torch.Tensor, radius: float) -> torch.Tensor:
    """Share of each image's energy inside the disc, with and without its mean.

    Images [n, K, H, W] to [n, 2] in [0, 1]: the energy is the sum of squared magnitudes over
    frequencies and channels; the second share leaves the zero frequency out. NaN without energy.
    """
    height, width = images.shape[-2:]
    weights = multiplicity(width, images.device, images.dtype)
    energy = (half_spectrum(images).abs().square() * weights).sum(dim=1)
    inside = (energy * disc(height, width, radius, images.device)).sum(dim=(1, 2))
    whole, zero = energy.sum(dim=(1, 2)), energy[:, 0, 0]
    # A constant image leaves rounding errors beside its zero frequency.
    contrast = torch.where(whole - zero > 1e-12 * whole, whole - zero, torch.nan)
    return torch.stack([inside / whole, (inside - zero) / contrast], dim=1)
