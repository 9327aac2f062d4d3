"""Spectra of real images, and the low-pass disc.

Everything here works in the image's own real arithmetic (float32 or float64), and rests on two
facts. The spectrum of a real image is Hermitian, so the half that `rfft2` gives determines the
rest: a sum over all frequencies is a sum over the half spectrum with each column weighted by its
multiplicity. And the disc is tiny (r = 16 of 224), so what lies inside it is worth no fast
transform of everything: products with the few cosines and sines below the radius give it, in less
time and memory.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

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


def from_half_spectrum(spectrum: Tensor, *, width: int) -> Tensor:
    """The real images [..., H, W] of a half spectrum [..., H, W // 2 + 1]."""
    size = (spectrum.shape[-2], width)
    images: Tensor = torch.fft.irfft2(spectrum, s=size, norm="ortho")
    return images


@functools.lru_cache(maxsize=32)
def frequencies_inside(height: int, width: int, radius: float) -> int:
    """Number of frequencies of the full spectrum inside the disc."""
    device = torch.device("cpu")
    inside = disc(height, width, radius, device).double()
    return int((inside * multiplicity(width, device, torch.float64)).sum().item())


@dataclass(frozen=True, kw_only=True)
class Waves:
    """The real waves below a radius, along both axes of H x W images.

    Along an axis of length n these are the constant, and the cosines and sines of the frequencies
    below the radius, orthonormal. The products of A waves along the height with B along the width
    give an image's coefficients [..., A, B]. Frequency (f, g) is in the disc together with its
    mirrors (+-f, +-g), and these four span the same images as the products of the cosines and
    sines of f and g. So the low-pass is a projection on some of the products: coefficients, a mask
    on them, and back.
    """

    rows: Tensor  # [H, A]
    columns: Tensor  # [W, B]
    inside: Tensor  # [A, B], 1 where the frequencies of both waves are in the disc, else 0
    # The spectrum in a box around the disc follows from the coefficients: rows_to_bins @
    # coefficients @ columns_to_bins, [..., U, V].
    rows_to_bins: Tensor  # complex [U, A]
    columns_to_bins: Tensor  # complex [B, V]
    times: Tensor  # [U, V], how often a bin stands in the disc of the full spectrum: 0, 1 or 2

    def coefficients(self, images: Tensor) -> Tensor:
        """Images [..., H, W] to coefficients [..., A, B]."""
        return _along_height(self.rows.T, images) @ self.columns

    def images(self, coefficients: Tensor, *, layout: torch.memory_format) -> Tensor:
        """Coefficients [..., A, B] to images [..., H, W]."""
        lines = coefficients @ self.columns.T
        return _along_height(self.rows, lines.contiguous(memory_format=layout))

    def spectrum(self, coefficients: Tensor) -> Tensor:
        """Coefficients [..., A, B] to the box of the half spectrum: complex [..., U, V]."""
        values = coefficients.to(self.rows_to_bins.dtype)
        return self.rows_to_bins @ values @ self.columns_to_bins

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """Adjoint of `spectrum`: complex [..., U, V] to coefficients [..., A, B]."""
        return (self.rows_to_bins.mH @ spectrum @ self.columns_to_bins.mH).real


@functools.lru_cache(maxsize=32)
def waves(
    height: int, width: int, radius: float, device: torch.device, dtype: torch.dtype
) -> Waves:
    """The waves below `radius` of height x width images."""
    with torch.inference_mode(False):
        rows, row_frequencies = _waves(height, radius)
        columns, column_frequencies = _waves(width, radius)
        squares = row_frequencies[:, None] ** 2 + column_frequencies[None, :] ** 2
        # Bins of a box around the disc: of either sign along the height, one half of the width.
        near_rows = signed_frequencies(height).abs() < radius
        near_columns = torch.arange(width // 2 + 1) < radius
        cpu = torch.device("cpu")
        times = disc(height, width, radius, cpu) * multiplicity(width, cpu, torch.float64)
        row_bins = torch.fft.fft(rows, dim=0, norm="ortho")
        column_bins = torch.fft.rfft(columns, dim=0, norm="ortho")
        complex_dtype = dtype.to_complex()
        return Waves(
            rows=rows.to(device, dtype),
            columns=columns.to(device, dtype),
            inside=(squares.double() < float(radius) ** 2).to(device, dtype),
            rows_to_bins=row_bins[near_rows].to(device, complex_dtype),
            columns_to_bins=column_bins[near_columns].T.to(device, complex_dtype),
            times=times[near_rows][:, near_columns].to(device, dtype),
        )


def _waves(n: int, radius: float) -> tuple[Tensor, Tensor]:
    """Orthonormal waves of n points, float64 [n, A], and the frequency of each, int64 [A]."""
    frequencies = torch.tensor([f for f in range(n // 2 + 1) if f < radius])
    # A sine at frequency 0 or n / 2 is zero everywhere.
    sines = frequencies[(frequencies > 0) & (2 * frequencies < n)]
    points = torch.arange(n)[:, None]
    # Reduced to one period before the multiplication, so that large angles lose no digits.
    waves = torch.cat(
        [
            torch.cos(2 * torch.pi / n * (points * frequencies % n).double()),
            torch.sin(2 * torch.pi / n * (points * sines % n).double()),
        ],
        dim=1,
    )
    return waves / waves.norm(dim=0), torch.cat([frequencies, sines])


def _along_height(matrix: Tensor, images: Tensor) -> Tensor:
    """[M, H] times each column of the images [..., H, W]: [..., M, W], layout kept."""
    if not _is_channels_last(images):
        return matrix @ images
    # Memory holds [N, H, W, C]: one product takes all channels at once and copies nothing.
    n, channels, height, width = images.shape
    mixed = matrix @ images.permute(0, 2, 3, 1).reshape(n, height, width * channels)
    return mixed.view(n, len(matrix), width, channels).permute(0, 3, 1, 2)


def layout_of(images: Tensor) -> torch.memory_format:
    """channels_last for images that lie so in memory, else contiguous."""
    return torch.channels_last if _is_channels_last(images) else torch.contiguous_format


def _is_channels_last(images: Tensor) -> bool:
    return images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last)


def low_pass(images: Tensor, radius: float) -> Tensor:
    """Keep the frequencies inside the disc: real [..., H, W] to real [..., H, W]."""
    basis = waves(*images.shape[-2:], radius, images.device, images.dtype)
    coefficients = basis.coefficients(images) * basis.inside
    return basis.images(coefficients, layout=layout_of(images))


def keep_band(images: Tensor, keep_low: Tensor, radius: float) -> Tensor:
    """Each image's frequencies inside the disc where keep_low [N] says so, else those outside.

    The filter is linear, so the high-pass is the image less its low-pass: no transform of its own.
    """
    basis = waves(*images.shape[-2:], radius, images.device, images.dtype)
    low = keep_low.to(images.dtype).view(-1, 1, 1, 1)
    # The sign goes to the coefficients, which are few.
    coefficients = basis.coefficients(images) * basis.inside * (2 * low - 1)
    return basis.images(coefficients, layout=layout_of(images)).addcmul_(images, 1 - low)
