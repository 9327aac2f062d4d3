"""Arithmetic with one constant per channel."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images [N, C, H, W] minus mean, over std: one number of each per channel; layout kept.

    Numbers of RGB are for images of other channels as `per_channel` has them.
    """
    return (images - _row(tuple(mean), images)).div_(_row(tuple(std), images))


def denormalise(values: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised images as they were."""
    return (values * _row(tuple(std), values)).add_(_row(tuple(mean), values))


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A number for each channel; for others than three, RGB's mean for each."""
    if len(values) == 3 and channels != 3:
        return (sum(values) / 3,) * channels
    return tuple(values)


def _row(values: tuple[float, ...], images: Tensor) -> Tensor:
    """One number per channel for each pixel of a row: [1, C, 1, W], in the images' layout.

    Broadcasting C numbers over channels_last memory makes an inner loop of C = 3 steps, 3 to 10
    times slower than one over whole rows.
    """
    last = images.is_contiguous(memory_format=torch.channels_last)
    values = per_channel(values, images.shape[1])
    return _cached_row(values, images.shape[-1], last, images.device, images.dtype)


@functools.lru_cache(maxsize=32)
def _cached_row(
    values: tuple[float, ...],
    width: int,
    channels_last: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    # The cached row outlives an inference_mode that it may be asked for in.
    with torch.inference_mode(False):
        row = torch.tensor(values, dtype=dtype).view(1, -1, 1, 1).expand(-1, -1, -1, width)
        return row.contiguous(memory_format=layout).to(device)
