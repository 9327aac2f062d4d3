"""Backbones from timm, the reconstruction head, and initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from mfm import checkpoint, config
from mfm.atomic import replacing
from mfm.config_errors import nearest
from mfm.errors import UserError
from mfm.weights_metadata import read_metadata, to_header

# What other code puts around a backbone's parameter names: DistributedDataParallel, and the
# paper code's pretraining model.
_PREFIXES = ("module.", "encoder.", "backbone.")
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_CLASSIFIER = ("fc.", "head.", "classifier.", "head_dist.")


def create_backbone(settings: config.Model, *, classes: int) -> nn.Module:
    """A timm model with torchvision's initialisation; classes=0 leaves the classifier out.

    Raises UserError for a name timm doesn't know, or one without a last feature map.
    """
    options: dict[str, Any] = {"num_classes": classes, "pretrained": False}
    if settings.drop_path:
        options["drop_path_rate"] = settings.drop_path
    if settings.backbone.startswith(("resnet", "resnext", "wide_resnet")):
        # timm starts the last batch norm of each block at zero, torchvision (and with it
        # upstream) at one.
        options["zero_init_last"] = False
    if settings.backbone not in timm.list_models():
        near = nearest(settings.backbone, timm.list_models())
        raise UserError(f"model.backbone: timm has no model '{settings.backbone}'{near}")
    try:
        backbone: nn.Module = timm.create_model(settings.backbone, **options)
    except (TypeError, RuntimeError, ValueError) as error:
        raise UserError(f"model.backbone {settings.backbone}: {error}") from None
    if not hasattr(backbone, "forward_intermediates"):
        raise UserError(
            f"model.backbone: timm's '{settings.backbone}' gives no feature maps; choose a ResNet, "
            "ConvNeXt, ViT or Swin"
        )
    return backbone


def stride(backbone: nn.Module) -> int:
    """Pixels of the input per position of the last feature map, along one side."""
    return int(backbone.feature_info[-1]["reduction"])  # type: ignore[index]


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
        features = self.backbone.forward_intermediates(  # type: ignore[operator]
            images, indices=1, norm=True, intermediates_only=True
        )[-1]
        prediction: Tensor = self.head(features)
        return prediction


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a weight file gave a model."""

    matched: int
    new: tuple[str, ...]  # of the model, not in the file: the classifier
    unused: tuple[str, ...]  # of the file, not in the model

    def __str__(self) -> str:
        text = f"{self.matched} tensors matched"
        if self.new:
            text += f"; new here: {', '.join(self.new)}"
        if self.unused:
            more = " ..." if len(self.unused) > 4 else ""
            text += f"; unused from the file: {', '.join(self.unused[:4])}{more}"
        return text


def read_weights(source: str) -> dict[str, Tensor]:
    """Tensors of a local .safetensors or .pth file, or of a torchvision weight name.

    Raises UserError for a missing file, a name torchvision doesn't know, a download that fails,
    and a pickle that would need to run code.
    """
    path = Path(source).expanduser()
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"weights {path} can't be read: {error}") from None
    if config.is_path(source):
        check_weights(source)
        return _state_dict(checkpoint.load_pickle(path), path)
    return _torchvision_weights(source)


def check_weights(source: str) -> None:
    """Raise UserError, without loading anything, where `source` can't be weights."""
    path = Path(source).expanduser()
    if config.is_path(source):
        if not path.is_file():
            raise UserError(f"weights: there is no file {path}")
    else:
        _torchvision_enum(source)


def _torchvision_enum(source: str) -> torchvision.models.WeightsEnum:
    name = source.removeprefix("torchvision/")
    try:
        weights: torchvision.models.WeightsEnum = torchvision.models.get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise UserError(
            f"weights: '{source}' is neither a file nor a torchvision weight name such as "
            "ResNet50_Weights.IMAGENET1K_V1"
        ) from None
    return weights


def _torchvision_weights(source: str) -> dict[str, Tensor]:
    check_weights(source)
    weights = _torchvision_enum(source)
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    file = cache / Path(weights.url).name
    if file.exists():
        return _state_dict(checkpoint.load_pickle(file), file)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"weights {source} could not be downloaded ({error}); fetch {weights.url} elsewhere "
            f"and put the file into {cache}"
        ) from None


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint, out of the usual wrappers."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def load_backbone(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Load a backbone's weights into a classifier; its classifier layer starts new.

    Raises UserError unless every tensor of the backbone is in the file with its shape: a file of
    another model must not be mistaken for an initialisation.
    """
    found = {_plain_name(name): tensor for name, tensor in tensors.items()}
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(_CLASSIFIER)
    }
    matched = {
        name: found[name]
        for name, tensor in wanted.items()
        if name in found and found[name].shape == tensor.shape
    }
    # Files from before PyTorch 0.4.1 have no such counters; nothing reads their value here.
    missing = [
        name for name in wanted if name not in matched and not name.endswith("num_batches_tracked")
    ]
    if missing:
        first = missing[0]
        why = (
            f"{first} has shape {tuple(found[first].shape)}, not {tuple(wanted[first].shape)}"
            if first in found
            else f"{first} is missing"
        )
        raise UserError(
            f"weights {source} are of another model: {len(wanted) - len(missing)} of {len(wanted)} "
            f"backbone tensors match ({why}); give the weights of this backbone or change "
            "model.backbone"
        )
    own = {name for name, _ in model.named_children()}
    more = [
        name
        for name in found
        if name not in wanted and name.split(".")[0] in own and not name.startswith(_CLASSIFIER)
    ]
    if more:
        raise UserError(
            f"weights {source} are of another model, a larger one: {len(more)} tensors such as "
            f"{more[0]} have no place in this backbone; change model.backbone"
        )
    model.load_state_dict(matched, strict=False)
    return LoadReport(
        matched=len(matched),
        new=tuple(name for name in model.state_dict() if name not in matched),
        unused=tuple(name for name in found if name not in matched),
    )


def _plain_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a model's state as safetensors with metadata, atomically."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with checkpoint.explaining_full_disk(path), replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=to_header(metadata))
        temporary.chmod(0o644)  # safetensors leaves it to its owner alone


def load_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Load a file that `save_weights` wrote into the same model; returns its metadata."""
    try:
        metadata = read_metadata(path)
        model.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"weights {path} don't fit this model: {error}") from None
    if metadata is None:
        raise UserError(f"weights {path} were not saved by this package")
    return metadata
