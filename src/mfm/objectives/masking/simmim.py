"""SimMIM: its network, which hides patches from itself, and its loss.

Source: Xie et al., "SimMIM", CVPR 2022, and its code (github.com/microsoft/SimMIM, commit d3e29bc).
For networks without patch embedding, which that code doesn't have: Li et al., "A2MIM", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mfm.models.backbones import patch_side
from mfm.models.reconstruction import ReconstructionModel
from mfm.objectives.masking.masks import enlarged, filled


class SimmimModel(ReconstructionModel):
    """A backbone and MFM's one-layer head, which is SimMIM's as well.

    A ViT or Swin sees a learned token in place of each masked patch's embedding, before its
    position embedding. Any other network sees the image's mean colour there.
    """

    def __init__(self, backbone: nn.Module, *, channels: int = 3) -> None:
        super().__init__(backbone, out_channels=channels)
        self.mask_token: nn.Parameter | None = None
        if patch_side(backbone) is not None:
            embedded: Any = backbone.patch_embed
            self.mask_token = nn.Parameter(torch.empty(1, 1, embedded.proj.out_channels))
            # models/simmim.py: cut off at one standard deviation in a ViT, as all of its weights,
            # and in a Swin as good as nowhere.
            cut = 0.02 if isinstance(backbone, timm.models.VisionTransformer) else 2.0
            nn.init.trunc_normal_(self.mask_token, std=0.02, a=-cut, b=cut)

    def no_weight_decay(self) -> set[str]:
        """The token, as timm's class tokens."""
        return set() if self.mask_token is None else {"mask_token"}

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:  # type: ignore[override]
        """Normalised images [N, 3, H, W], masks bool [N, h, w]: predictions [N, 3, H, W]."""
        if self.mask_token is None:
            return super().forward(filled(images, masks))
        embedding: Any = self.backbone.patch_embed
        tokens = enlarged(masks, images.shape[-1] // max(embedding.patch_size))
        hook = embedding.register_forward_hook(
            partial(_put_token, token=self.mask_token, masks=tokens)
        )
        try:
            return super().forward(images)
        finally:
            hook.remove()

    def load_head(  # type: ignore[override]
        self, tensors: Mapping[str, Tensor]
    ) -> bool:
        """Load head and token from SimMIM's names, or from those here; whether all were there."""
        heads = ("decoder.", "head.")
        if not any(super(SimmimModel, self).load_head(tensors, prefix=each) for each in heads):
            return False
        if self.mask_token is None:
            return True
        for name in ("encoder.mask_token", "mask_token"):
            if name in tensors and tensors[name].shape == self.mask_token.shape:
                self.mask_token.data.copy_(tensors[name])
                return True
        return False


def _put_token(
    module: nn.Module, inputs: tuple[Tensor], embedded: Tensor, *, token: Tensor, masks: Tensor
) -> Tensor:
    """Embedded patches, [N, L, D] or [N, h, w, D], with the token in place of masked ones."""
    where = masks.view(*embedded.shape[:-1], 1)
    return torch.where(where, token.to(embedded.dtype).view(-1), embedded)


def image_losses(prediction: Tensor, target: Tensor, masks: Tensor) -> Tensor:
    """Mean of absolute differences over each image's masked pixels and their channels: [N].

    SimMIM's code divides by the number of the batch's masked pixels plus 1e-5, which is 1e-5 of one
    pixel more. All images mask as many, so the batch's mean is the mean of these.
    """
    with torch.autocast(target.device.type, enabled=False):
        pixels = enlarged(masks, target.shape[-1])
        distances = (prediction.to(target.dtype) - target).abs_().sum(dim=1)
        return distances.mul_(pixels).sum(dim=(1, 2)) / (target.shape[1] * pixels.sum(dim=(1, 2)))
