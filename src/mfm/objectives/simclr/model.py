"""Backbone and projection of SimCLR."""

from __future__ import annotations

from torch import Tensor, nn

from mfm.models.backbones import create_backbone, pooled
from mfm.models.settings import Model


class SimclrModel(nn.Module):
    """A backbone and a projection of its features: images [N, 3, H, W] to [N, width]."""

    def __init__(self, backbone: nn.Module, settings: Model, *, width: int, batchnorm: bool):
        super().__init__()
        self.backbone = backbone
        self._settings = settings
        self.projection = _projection(
            int(backbone.head_hidden_size),  # type: ignore[arg-type]
            width,
            batchnorm=batchnorm,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images to their projections."""
        projected: Tensor = self.projection(pooled(self.backbone, images, settings=self._settings))
        return projected


def create_simclr_model(settings: Model, *, size: int, width: int, batchnorm: bool) -> SimclrModel:
    """Backbone and projection for images of `size` pixels."""
    backbone = create_backbone(settings, classes=0, image_size=size)
    return SimclrModel(backbone, settings, width=width, batchnorm=batchnorm)


def _projection(features: int, width: int, *, batchnorm: bool) -> nn.Sequential:
    """Two layers, the first as wide as the features; what there is of batch norm and biases is as
    in google-research/simclr, commit 383d414, model_util.py (projection_head): the last one has no
    shift. The code's default of three layers is SimCLR v2's.
    """
    first, last = (
        nn.Linear(features, features, bias=not batchnorm),
        nn.Linear(features, width, bias=not batchnorm),
    )
    if not batchnorm:
        return nn.Sequential(first, nn.ReLU(inplace=True), last)
    scale = nn.BatchNorm1d(width)
    scale.register_parameter("bias", None)
    return nn.Sequential(first, nn.BatchNorm1d(features), nn.ReLU(inplace=True), last, scale)
