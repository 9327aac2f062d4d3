"""Half spectra of real images, and the low-pass disc.

Everything here works in the image's own real arithmetic (float32 or float64). The spectrum of a
real image is Hermitian, so the half that `rfft2` gives determines the rest: a sum over all
frequencies is a sum over the half spectrum with each column weighted by its multiplicity.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def signed_frequencies(n: int) -> Tensor:
    """Signed frequency of each DFT bin, zero first: int64 [n] in [-(n // 2), (n - 1) // 2].

    This is the position after moving the zero frequency to n // 2, less n // 2.
    """
    return (torch.arange(n) + n // 2) % n - n // 2


@functools.lru_cache(maxsize=32)
def disc(height: int, width: int, radius: float, device: torch.device) -> Tensor:
    """The low-pass mask M on the half spectrum: bool [H, W // 2 + 1].

    True where the squared distance to the zero frequency is strictly below radius**2 (paper
    equation 4; strict in both released codes). The disc is symmetric, so filtering a real image
    with it gives a real image.
    """
    # The cached mask outlives an inference_mode that it may be asked for in.
    with torch.inference_mode(False):
        rows = signed_frequencies(height)[:, None]
        columns = torch.arange(width // 2 + 1)[None, :]
        inside: Tensor = ((rows**2 + columns**2).double() < float(radius) ** 2).to(device)
    return inside


@functools.lru_cache(maxsize=32)
def multiplicity(width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """How often each column of the half spectrum stands in the full one: [W // 2 + 1], 1 or 2."""
    with torch.inference_mode(False):
        weights = torch.full((width // 2 + 1,), 2.0)
        weights[0] = 1.0
        if width % 2 == 0:
            weights[-1] = 1.0
        return weights.to(device=device, dtype=dtype)


def half_spectrum(images: Tensor) -> Tensor:
    """Orthonormal half spectrum: real [..., H, W] to complex [..., H, W // 2 + 1]."""
    spectrum: Tensor = torch.fft.rfft2(images, norm="ortho")
    return spectrum


def low_pass(images: Tensor, radius: float) -> Tensor:
    """Keep the frequencies inside the disc: real [..., H, W] to real [..., H, W]."""
    height, width = images.shape[-2:]
    kept = half_spectrum(images) * disc(height, width, radius, images.device)
    filtered: Tensor = torch.fft.irfft2(kept, s=(height, width), norm="ortho")
    return filtered


def frequencies_inside(height: int, width: int, radius: float) -> int:
    """Number of frequencies of the full spectrum inside the disc."""
    device = torch.device("cpu")
    inside = disc(height, width, radius, device).double()
    return int((inside * multiplicity(width, device, torch.float64)).sum().item())
