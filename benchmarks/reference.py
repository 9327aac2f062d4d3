"""The plain training step that the benchmarks compare with.

What the published code does, written anew: float32, NCHW, the full complex transform for masking
and twice for the loss (of prediction and target), the mask as a product over the whole shifted
spectrum, AdamW one parameter at a time, and the loss read back at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LUMINANCE = (0.299, 0.587, 0.114)


class PlainMasking:
    """Masked frequency modeling, recipe 'upstream', with complex spectra of everything."""

    def __init__(self, *, radius: float) -> None:
        self.radius = radius

    def corrupt(self, images: Tensor, keep_low: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] to the modulus of the band that is kept."""
        spectrum = _centred_spectrum((images - 0.4) / 0.2)
        kept = torch.fft.ifftshift(spectrum * self._kept(images, keep_low), dim=(-2, -1))
        return torch.fft.ifft2(kept, norm="ortho").abs()

    def loss(self, prediction: Tensor, images: Tensor, keep_low: Tensor) -> Tensor:
        """Mean distance of two spectra over the removed frequencies, averaged over images."""
        weights = torch.tensor(LUMINANCE).view(1, 3, 1, 1)
        target = (((images - 0.4) / 0.2) * weights).sum(dim=1, keepdim=True)
        difference = _centred_spectrum(prediction) - _centred_spectrum(target)
        distance = torch.sqrt(difference.real**2 + difference.imag**2 + 1e-7)
        removed = 1 - self._kept(images, keep_low)
        return ((distance * removed).sum(dim=(1, 2, 3)) / removed.sum(dim=(1, 2, 3))).mean()

    def _kept(self, images: Tensor, keep_low: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        rows = torch.arange(height) - height // 2
        columns = torch.arange(width) - width // 2
        disc = (rows[:, None] ** 2 + columns[None, :] ** 2 < self.radius**2).float()
        return torch.where(keep_low.view(-1, 1, 1, 1), disc, 1 - disc)


def _centred_spectrum(images: Tensor) -> Tensor:
    return torch.fft.fftshift(torch.fft.fft2(images, norm="ortho"), dim=(-2, -1))


class PlainStep:
    """One plain training step of a model: pretraining, or finetuning with labels."""

    def __init__(self, model: nn.Module, *, radius: float | None) -> None:
        self.model = model.train()
        self.masking = None if radius is None else PlainMasking(radius=radius)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-3, weight_decay=0.05, foreach=False, fused=False
        )

    def __call__(self, images: Tensor, labels: Tensor, keep_low: Tensor) -> float:
        """Images [N, 3, H, W] in [0, 1] and labels [N] or keep_low [N]: the loss."""
        if self.masking is None:
            mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
            std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
            loss = F.cross_entropy(self.model((images - mean) / std), labels)
        else:
            prediction = self.model(self.masking.corrupt(images, keep_low))
            loss = self.masking.loss(prediction, images, keep_low)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()
