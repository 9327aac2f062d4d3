"""Weights for the models of plain torchvision and timm, which are checked to take them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.files.atomic import explaining_full_disk, open_to_others, replacing
from mfm.models.backbones import create_backbone, has_fixed_size, with_stem
from mfm.models.settings import Model

TARGETS = ("torchvision", "timm")


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a weight file is of."""

    model: Model
    classes: int  # 0: no classifier
    image_size: int | None  # where the backbone is made for one size

    def create(self) -> nn.Module:
        """The network in this package."""
        return create_backbone(self.model, classes=self.classes, image_size=self.image_size)

    def options(self) -> dict[str, Any]:
        """What timm is told to make the same."""
        options: dict[str, Any] = {"num_classes": self.classes}
        if self.model.pooling == "mean" and self.classes:
            options["global_pool"] = "avg"
        if self.image_size is not None and has_fixed_size(self.model.backbone):
            options["img_size"] = self.image_size
        return options | self.model.options

    @property
    def note(self) -> str | None:
        """What to know before other code takes the weights; None where it is as it says."""
        name = self.model.backbone
        if self.model.title == name:
            return None
        return (
            f"these weights are of {self.model.title}; the standard {name} is another network, "
            "though it may take them without an error: make it as the model card does"
        )


def add_new_classifier(parser: argparse.ArgumentParser) -> None:
    """The option of both command lines that write for plain models."""
    parser.add_argument(
        "--new-classifier",
        type=int,
        default=0,
        metavar="CLASSES",
        help="add a classifier of zeros to a backbone, so that the whole plain model takes it",
    )


def describe_network(
    tensors: dict[str, Tensor], *, model: Model, size: int | None = None
) -> Network:
    """The network of a state dict with timm's names: what shapes tell beside the settings.

    `size` is the side of its images, where it is known: a Swin's shapes don't tell it.
    """
    described: Any = timm.models.get_pretrained_cfg(model.backbone, allow_unregistered=True)
    layer = getattr(described, "classifier", None) or "fc"  # a pair of a distilled ViT's
    weight = f"{layer if isinstance(layer, str) else layer[0]}.weight"
    classes = len(tensors[weight]) if weight in tensors else 0
    if size is None and "pos_embed" in tensors and "patch_embed.proj.weight" in tensors:
        # One position is the class token's; the others are a square of patches.
        patch = tensors["patch_embed.proj.weight"].shape[-1]
        size = patch * int((tensors["pos_embed"].shape[1] - 1) ** 0.5)
    pooling = "mean" if "fc_norm.weight" in tensors else None
    model = model.model_copy(update={"pooling": pooling})
    return Network(model=model, classes=classes, image_size=size)


def with_new_classifier(tensors: dict[str, Tensor], network: Network, classes: int) -> Network:
    """Add a classifier of zeros to a backbone's tensors, in place."""
    if network.classes:
        raise UserError(f"--new-classifier: the file has a classifier of {network.classes} classes")
    network = Network(model=network.model, classes=classes, image_size=network.image_size)
    for name, tensor in network.create().state_dict().items():
        if name not in tensors:
            tensors[name] = torch.zeros_like(tensor)
    return network


def plain_model(network: Network, target: str) -> nn.Module:
    """The model of plain torchvision or timm, without anything of this package.

    Raises UserError for networks that torchvision doesn't have or names otherwise.
    """
    if target == "timm":
        model: nn.Module = timm.create_model(network.model.backbone, **network.options())
        return with_stem(model, network.model)
    if network.model.stem_stride != 4 or network.model.options:
        raise UserError(
            f"torchvision's {network.model.backbone} is another network, though it may take the "
            f"weights of this {network.model.title}; use --to timm"
        )
    if not network.model.backbone.startswith(("resnet", "resnext", "wide_resnet")):
        raise UserError(
            f"torchvision has no {network.model.backbone} with these parameter names; use --to timm"
        )
    try:
        plain: nn.Module = torchvision.models.get_model(
            network.model.backbone, num_classes=network.classes or 1000
        )
    except ValueError:
        raise UserError(f"torchvision has no {network.model.backbone}; use --to timm") from None
    if not network.classes:
        plain.fc = nn.Identity()
    return plain


def write_plain(tensors: dict[str, Tensor], network: Network, *, target: str, path: Path) -> None:
    """Write tensors that the target's own model takes with strict=True; .safetensors or .pth.

    Raises UserError where it doesn't take them.
    """
    model = plain_model(network, target)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise UserError(f"{target}'s {network.model.backbone} refuses them: {error}") from None
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with explaining_full_disk(path), replacing(path) as temporary:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            torch.save(tensors, temporary)
        open_to_others(temporary)
