"""Backbones from timm."""

from __future__ import annotations

from typing import Any

import timm
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.models.settings import Model
from mfm.settings.messages import nearest


def create_backbone(settings: Model, *, classes: int, image_size: int | None = None) -> nn.Module:
    """A timm model with torchvision's initialisation; classes=0 leaves the classifier out.

    `image_size`, the side in pixels, counts for backbones that are made for one size, such as ViTs;
    None is timm's own. Raises UserError for a name or options timm doesn't know, and for a model
    without a last feature map.
    """
    options: dict[str, Any] = {"num_classes": classes, "pretrained": False}
    if settings.drop_path:
        options["drop_path_rate"] = settings.drop_path
    if settings.pooling == "mean" and classes:
        options["global_pool"] = "avg"
    if image_size is not None and has_fixed_size(settings.backbone):
        options["img_size"] = image_size
    if settings.backbone.startswith(("resnet", "resnext", "wide_resnet")):
        # timm starts the last batch norm of each block at zero, torchvision (and with it
        # upstream) at one.
        options["zero_init_last"] = settings.zero_init_last
    elif settings.zero_init_last:
        raise UserError(f"model.zero_init_last is for ResNets, not for {settings.backbone}")
    if settings.backbone not in timm.list_models():
        near = nearest(settings.backbone, timm.list_models())
        raise UserError(f"model.backbone: timm has no model '{settings.backbone}'{near}")
    try:
        backbone: nn.Module = timm.create_model(settings.backbone, **options, **settings.options)
    except Exception as error:  # a model raises whatever its options lead to
        key = f"model.options {settings.options}" if settings.options else "model.backbone"
        why = str(error) or type(error).__name__
        raise UserError(f"{key}: timm can't make this {settings.backbone}: {why}") from None
    if not hasattr(backbone, "forward_intermediates"):
        raise UserError(
            f"model.backbone: timm's '{settings.backbone}' gives no feature maps; choose a ResNet, "
            "ConvNeXt, ViT or Swin"
        )
    if isinstance(backbone, timm.models.ResNet) and len(backbone.feature_info) != 5:
        raise UserError("model.options: a ResNet has four stages: give four layers and channels")
    if not settings.drop_path:
        for module in backbone.modules():
            if isinstance(module, timm.layers.drop.DropPath):
                module.drop_prob = 0.0  # timm's Swin has 0.1 where nothing is said
    return with_stem(backbone, settings)


def with_stem(backbone: nn.Module, settings: Model) -> nn.Module:
    """The backbone, with a stem for small images; of stride 1 as in He et al. 2016, section 4.2."""
    if settings.stem_stride == 4:
        return backbone
    network: Any = backbone
    first = getattr(network, "conv1", None)
    if not isinstance(backbone, timm.models.ResNet) or not isinstance(first, nn.Conv2d):
        raise UserError(
            f"model.stem_stride is for ResNets with one first layer, not for {settings.backbone}"
        )
    if settings.stem_stride == 1:
        network.conv1 = nn.Conv2d(
            first.in_channels, first.out_channels, kernel_size=3, padding=1, bias=False
        )
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    first_layer, *stages = network.feature_info
    first_layer["reduction"] = settings.stem_stride
    for stage in stages:
        stage["reduction"] = stage["reduction"] * settings.stem_stride // 4
    return backbone


def has_fixed_size(backbone: str) -> bool:
    """Whether a timm model is made for one image size, by its position embedding or windows."""
    described = timm.models.get_pretrained_cfg(backbone, allow_unregistered=True)
    return bool(getattr(described, "fixed_input_size", False))


def stride(backbone: nn.Module) -> int:
    """Pixels of the input per position of the last feature map, along one side."""
    return int(backbone.feature_info[-1]["reduction"])  # type: ignore[index]


def patch_side(backbone: nn.Module) -> int | None:
    """Pixels along a side of the patches that a ViT or Swin embeds, each by itself; else None."""
    embedding = getattr(backbone, "patch_embed", None)
    return max(embedding.patch_size) if isinstance(embedding, PatchEmbed) else None


def leaves_patches_out(backbone: nn.Module) -> bool:
    """Whether the network can see some of an image's patches alone, as timm's plain ViTs can."""
    if not isinstance(backbone, timm.models.VisionTransformer) or patch_side(backbone) is None:
        return False
    return isinstance(backbone.patch_drop, nn.Identity)  # drops none by an option of its own


def pooled(backbone: nn.Module, images: Tensor, *, settings: Model) -> Tensor:
    """What a classifier on the backbone would read of normalised images: [N, features]."""
    features: Tensor
    if settings.pooling == "mean" and isinstance(backbone, timm.models.VisionTransformer):
        # Made without a classifier, it would read the class token.
        features = backbone.pool(backbone.forward_features(images), pool_type="avg")
    else:
        features = backbone(images)
    return features


def last_map(backbone: nn.Module, images: Tensor) -> Tensor:
    """The last feature map of normalised images, after its norm if it has one: [N, C, h, w]."""
    maps: list[Tensor] = backbone.forward_intermediates(  # type: ignore[operator]
        images, indices=1, norm=True, intermediates_only=True
    )
    return maps[-1]
