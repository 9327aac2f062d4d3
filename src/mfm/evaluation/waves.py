"""Waves of one frequency, added to images: the noise of Fourier heat maps.

D. Yin et al., "A Fourier Perspective on Model Robustness in Computer Vision", NeurIPS 2019 (arXiv
1906.08988): images X + r v U, where the real image U has one frequency and norm 1, v is the noise's
norm, and r is -1 or 1, drawn for each image and channel.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mfm.numerics.draws import Ints, Stream, uniforms


def add_wave(images: Tensor, rows: Ints, *, frequency: tuple[int, int], norm: float) -> Tensor:
    """Images [n, C, H, W] in [0, 1] with a wave, clipped; signs are drawn by rows of the manifest.

    `frequency` in bins down and across the image; `norm` is the Euclidean one of a channel's wave.
    """
    height, width = images.shape[-2:]
    # A frequency's own draws: those of another one don't depend on which are asked for.
    number = frequency[0] % height * width + frequency[1] % width
    draws = uniforms(seed=0, epoch=number, stream=Stream.WAVE, indices=rows, n=images.shape[1])
    signs = torch.from_numpy((draws < 0.5) * 2.0 - 1.0).to(images.device, images.dtype)
    wave = _wave(height, width, frequency).to(images.device, images.dtype) * norm
    return (images + signs[:, :, None, None] * wave).clamp_(0, 1)


@functools.lru_cache(maxsize=1024)
def _wave(height: int, width: int, frequency: tuple[int, int]) -> Tensor:
    """A cosine of that frequency and norm 1: float64 [H, W]."""
    # The cached wave outlives an inference_mode that it may be asked for in.
    with torch.inference_mode(False):
        down = (torch.arange(height)[:, None] * frequency[0] % height).double() / height
        across = (torch.arange(width)[None, :] * frequency[1] % width).double() / width
        wave = torch.cos(2 * torch.pi * (down + across))
        scaled: Tensor = wave / wave.norm()
        return scaled
