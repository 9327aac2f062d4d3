"""MAE: an encoder that sees patches that are left, a decoder that predicts the others, its loss.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, and its code
(github.com/facebookresearch/mae, commit efb2a80, models_mae.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mfm.objectives.masking.objective import Masking

_HEAD = 32  # width of a head of the decoder: 16 heads of 512


class MaeModel(nn.Module):
    """A ViT that sees some of the patches, and a decoder: predictions of all of them.

    The encoder is timm's own, with its initial weights, its learned position embedding and its
    class token; in the paper's code, all are initialised otherwise and the positions fixed sines.
    """

    def __init__(self, backbone: nn.Module, decoder: MaeDecoder, *, kept: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self._kept = kept  # patches of an image

    def load_head(self, tensors: Mapping[str, Tensor]) -> bool:
        """Load the decoder from MAE's names, or from those here; False where it doesn't fit."""
        own = self.decoder.state_dict()
        official = {name: f"decoder_{name}" for name in own} | {"mask_token": "mask_token"}
        for names in (official, {name: f"decoder.{name}" for name in own}):
            found = {name: tensors[other] for name, other in names.items() if other in tensors}
            shapes = {name: tensor.shape for name, tensor in found.items()}
            if shapes == {name: tensor.shape for name, tensor in own.items()}:
                self.decoder.load_state_dict(found)
                return True
        return False

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Normalised images [N, C, H, W], masks bool [N, h, w]: predictions [N, h * w, p * p * C].

        Pixels of a patch row by row, channels last.
        """
        # Patches that are left, then masked ones, each in the image's order.
        order = masks.flatten(1).to(torch.uint8).argsort(dim=1, stable=True)
        encoder: Any = self.backbone
        prefix = encoder.num_prefix_tokens  # class token, registers
        hook = encoder.patch_drop.register_forward_hook(
            partial(_left_out, kept=order[:, : self._kept], prefix=prefix)
        )
        try:
            tokens = encoder.forward_features(images)
        finally:
            hook.remove()
        predictions: Tensor = self.decoder(tokens, order.argsort(dim=1), prefix=prefix)
        return predictions


def _left_out(
    module: nn.Module, inputs: tuple[Tensor], tokens: Tensor, *, kept: Tensor, prefix: int
) -> Tensor:
    """Of [N, prefix + L, D] the tokens before the patches, and the patches `kept`, [N, K]."""
    return torch.cat([tokens[:, :prefix], _chosen(tokens[:, prefix:], kept)], dim=1)


def _chosen(tokens: Tensor, places: Tensor) -> Tensor:
    """Of [N, L, D] those at `places`, [N, K], in their order: [N, K, D]."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[-1]))


class MaeDecoder(nn.Module):
    """A narrow transformer over all patches, a token in place of each masked one."""

    position: Tensor

    def __init__(self, *, features: int, width: int, depth: int, side: int, values: int) -> None:
        """`features` are the encoder's; a patch has so many `values` to predict."""
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.register_buffer("position", sines(width, side), persistent=False)
        self.blocks = nn.Sequential(
            *(Block(width, width // _HEAD, qkv_bias=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pred = nn.Linear(width, values)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """The token, as timm's class tokens."""
        return {"mask_token"}

    def forward(self, tokens: Tensor, places: Tensor, *, prefix: int) -> Tensor:
        """Encoded tokens [N, prefix + K, D] to predictions [N, L, p * p * C].

        `places` [N, L]: where each patch is among the K that are encoded, then the masked ones.
        """
        tokens = self.embed(tokens)
        before, seen = tokens[:, :prefix], tokens[:, prefix:]
        hidden = self.mask_token.to(tokens.dtype).expand(
            len(tokens), places.shape[1] - seen.shape[1], -1
        )
        patches = _chosen(torch.cat([seen, hidden], dim=1), places) + self.position
        tokens = self.norm(self.blocks(torch.cat([before, patches], dim=1)))
        predictions: Tensor = self.pred(tokens[:, prefix:])
        return predictions


def create_model(
    backbone: nn.Module, masking: Masking, *, depth: int | None, width: int | None
) -> MaeModel:
    """A ViT and a decoder of `depth` blocks; where they are None, as large as suits the ViT.

    Two thirds of its depth and width, at most the 8 blocks and 512 that MAE has for ViT-B, -L
    and -H: two thirds of ViT-B's.
    """
    encoder: Any = backbone
    decoder = MaeDecoder(
        features=encoder.embed_dim,
        width=width or min(512, max(_HEAD, round(encoder.embed_dim * 2 / 3 / _HEAD) * _HEAD)),
        depth=depth or min(8, max(1, round(len(encoder.blocks) * 2 / 3))),
        side=masking.side,
        values=encoder.patch_embed.patch_size[0] ** 2 * encoder.patch_embed.proj.in_channels,
    )
    return MaeModel(backbone, decoder, kept=masking.side**2 - masking.count)


def sines(width: int, side: int) -> Tensor:
    """Position embedding of a square of patches, row by row: float32 [1, side * side, width].

    The first half tells the column and the second the row, each by sines, then cosines, of
    wavelengths from 2 pi to 10000 * 2 pi.
    """
    quarter = width // 4
    rates = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    of_place = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width / 2]
    columns, rows = of_place.repeat(side, 1), of_place.repeat_interleave(side, dim=0)
    return torch.cat([columns, rows], dim=1)[None].float()


def image_losses(prediction: Tensor, target: Tensor, masks: Tensor, *, norm_pixels: bool) -> Tensor:
    """Mean of squared differences over the pixels of each image's masked patches: [N].

    With `norm_pixels` each patch of the target has its own mean taken off and is divided by its
    own deviation. All images mask as many patches, so the batch's mean is the mean of these.
    """
    with torch.autocast(target.device.type, enabled=False):
        patches = answers(target, side=masks.shape[-1], norm_pixels=norm_pixels)
        hidden = masks.flatten(1)
        errors = (prediction.to(target.dtype) - patches).square().mean(dim=2)
        return (errors * hidden).sum(dim=1) / hidden.sum(dim=1)


def answers(target: Tensor, *, side: int, norm_pixels: bool) -> Tensor:
    """What is to be predicted of normalised images [N, C, H, W]: [N, side * side, p * p * C]."""
    patches = patches_of(target, side)
    if norm_pixels:
        mean, deviation = statistics(patches)
        patches = (patches - mean) / deviation
    return patches


def as_images(prediction: Tensor, target: Tensor, *, side: int, norm_pixels: bool) -> Tensor:
    """Predictions [N, L, p * p * C] as images [N, C, H, W], normalised as the target is.

    With `norm_pixels` a patch has the target's mean and deviation: the model predicts neither.
    """
    if norm_pixels:
        mean, deviation = statistics(patches_of(target, side))
        prediction = prediction * deviation + mean
    n, patch = len(target), target.shape[-1] // side
    pixels = prediction.reshape(n, side, side, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
    return pixels.reshape(target.shape)


def patches_of(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] as patches [N, side * side, p * p * C], channels last."""
    n, patch = len(images), images.shape[-1] // side
    pixels = images.reshape(n, -1, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1)
    return pixels.reshape(n, side**2, -1)


def statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch's numbers, the latter of the unbiased variance + 1e-6."""
    return patches.mean(dim=2, keepdim=True), (patches.var(dim=2, keepdim=True) + 1e-6).sqrt()
