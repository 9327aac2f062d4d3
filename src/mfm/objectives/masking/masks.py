"""Masks: which of an image's patches are hidden."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mfm.numerics.draws import Ints, Stream, hashes


def draw_masks(*, seed: int, epoch: int, rows: Ints, side: int, count: int) -> Tensor:
    """Each image's masked patches: bool [images, side, side], on the CPU.

    `count` of them, uniformly drawn without replacement, by (seed, epoch, image) alone.
    """
    words = hashes(seed=seed, epoch=epoch, stream=Stream.PATCHES, indices=rows, n=side**2)
    order = np.argsort(words, axis=1, kind="stable")
    masks = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(masks, order[:, :count], True, axis=1)
    return torch.from_numpy(masks).view(-1, side, side)


def enlarged(masks: Tensor, side: int) -> Tensor:
    """Masks [n, h, w] with `side` positions on each side: of pixels, or of a network's tokens."""
    height, width = (side // sides for sides in masks.shape[1:])
    return masks.repeat_interleave(height, dim=1).repeat_interleave(width, dim=2)


def filled(images: Tensor, masks: Tensor) -> Tensor:
    """Images [n, 3, H, W] with their own mean colour in masked patches.

    The mean is over all pixels of the image, masked ones too, as in the code of A2MIM (openmixup's
    datasets/pipelines/transforms.py at commit a969ef9, BlockwiseMaskGenerator, mask_color 'mean').
    """
    means = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(enlarged(masks, images.shape[-1])[:, None], means, images)
