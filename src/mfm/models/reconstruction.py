"""Backbone and head of the tasks that predict an image."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mfm.models.backbones import create_backbone, last_map, stride
from mfm.models.facts import check_size
from mfm.models.settings import Model
from mfm.models.weights import load_part


class ReconstructionModel(nn.Module):
    """A backbone and a one-layer head: images [N, 3, H, W] to predictions [N, K, H, W].

    The head is a 1x1 convolution to K * stride**2 channels and a pixel shuffle (paper section
    3.2: one linear layer). It starts at PyTorch's default, as in both released codes.
    """

    def __init__(self, backbone: nn.Module, *, out_channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        features = int(backbone.feature_info[-1]["num_chs"])  # type: ignore[index]
        scale = stride(backbone)
        self.head = nn.Sequential(
            nn.Conv2d(features, out_channels * scale**2, kernel_size=1), nn.PixelShuffle(scale)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [N, 3, H, W] to predictions [N, K, H, W]."""
        prediction: Tensor = self.head(last_map(self.backbone, images))
        return prediction

    def load_head(self, tensors: Mapping[str, Tensor], *, prefix: str) -> bool:
        """Load the head from tensors named `prefix` and so on; False where they don't fit."""
        return load_part(self.head, tensors, prefix=prefix)


def create_reconstruction_model(
    settings: Model, *, size: int, out_channels: int
) -> ReconstructionModel:
    """Backbone and head for images of `size` pixels.

    Raises UserError where that is not a multiple of the backbone's stride.
    """
    return ReconstructionModel(create_encoder(settings, size=size), out_channels=out_channels)


def create_encoder(settings: Model, *, size: int) -> nn.Module:
    """A backbone whose last map can predict images of `size` pixels.

    Raises UserError where that is not a multiple of its stride.
    """
    backbone = create_backbone(settings, classes=0, image_size=size)
    check_size(size, stride(backbone), backbone=settings.backbone, key="the size of its images")
    return backbone
