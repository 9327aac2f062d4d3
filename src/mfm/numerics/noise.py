"""Normal numbers, many for each image, on the image's own device.

Each image's numbers are a stream of SplitMix64 that begins at a key of `mfm.numerics.draws`, in
whole numbers, four normal ones a word: 16 bits choose one of 65,536 equally probable quantiles. So
they are the same on every device and in batches of any size; a logarithm or cosine would differ in
its last bits. The quantiles end at 4.2 standard deviations.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mfm.numerics.draws import Uint64s

_BITS = 16
_LANES = 64 // _BITS


def normals(keys: Uint64s, *, n: int, device: torch.device) -> Tensor:
    """n independent numbers from N(0, 1) for each key: float32 [len(keys), n]."""
    states = torch.from_numpy(keys.view("int64").copy()).to(device, non_blocking=True)
    counters = torch.arange(1, -(-n // _LANES) + 1, device=device) * _signed(0x9E3779B97F4A7C15)
    words = _mix(states[:, None] + counters)
    shifts = torch.arange(0, 64, _BITS, device=device)
    lanes = (words[:, :, None] >> shifts).bitwise_and_(2**_BITS - 1).flatten(1)[:, :n]
    numbers: Tensor = _quantiles(device)[lanes]
    return numbers


def normals_like(images: Tensor, keys: Uint64s) -> Tensor:
    """A number of its own for every value of images [n, C, H, W], by key; channels last."""
    n, channels, height, width = images.shape
    numbers = normals(keys, n=channels * height * width, device=images.device)
    return numbers.view(n, height, width, channels).permute(0, 3, 1, 2).to(images.dtype)


def _signed(word: int) -> int:
    """The same 64 bits; torch multiplies signed numbers, and wraps around as unsigned ones do."""
    return word - 2**64 if word >= 2**63 else word


def _mix(words: Tensor) -> Tensor:
    """That of `mfm.numerics.draws`."""
    words = (words ^ _right(words, 30)) * _signed(0xBF58476D1CE4E5B9)
    words = (words ^ _right(words, 27)) * _signed(0x94D049BB133111EB)
    return words ^ _right(words, 31)


def _right(words: Tensor, bits: int) -> Tensor:
    """Shifted to the right, zeros moving in."""
    return (words >> bits).bitwise_and_(2 ** (64 - bits) - 1)


@functools.lru_cache(maxsize=4)
def _quantiles(device: torch.device) -> Tensor:
    """Those of N(0, 1) in the middle of equal probabilities, scaled to a variance of 1."""
    # The cached table outlives an inference_mode that it may be asked for in.
    with torch.inference_mode(False):
        middles = (torch.arange(2**_BITS, dtype=torch.float64) + 0.5) / 2**_BITS
        values = torch.special.ndtri(middles)
        scaled: Tensor = (values / values.square().mean().sqrt()).float()
        return scaled.to(device)
