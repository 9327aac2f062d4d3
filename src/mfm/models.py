"""Backbones from timm, the reconstruction head, and initial weights."""

from __future__ import annotations

import hashlib
import re
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
# fc_norm is what a ViT with mean pooling has between the pooling and the classifier.
_CLASSIFIER = ("fc.", "head.", "classifier.", "head_dist.", "fc_norm.")


def create_backbone(
    settings: config.Model, *, classes: int, image_size: int | None = None
) -> nn.Module:
    """A timm model with torchvision's initialisation; classes=0 leaves the classifier out.

    `image_size`, the side in pixels, counts for backbones that are made for one size, such as ViTs;
    None is timm's own. Raises UserError for a name timm doesn't know, or one without a last feature
    map.
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
        backbone: nn.Module = timm.create_model(settings.backbone, **options)
    except (TypeError, RuntimeError, ValueError) as error:
        raise UserError(f"model.backbone {settings.backbone}: {error}") from None
    if not hasattr(backbone, "forward_intermediates"):
        raise UserError(
            f"model.backbone: timm's '{settings.backbone}' gives no feature maps; choose a ResNet, "
            "ConvNeXt, ViT or Swin"
        )
    return backbone


def has_fixed_size(backbone: str) -> bool:
    """Whether a timm model is made for one image size, by its position embedding or windows."""
    described = timm.models.get_pretrained_cfg(backbone, allow_unregistered=True)
    return bool(getattr(described, "fixed_input_size", False))


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
    kept_classifier: bool = False

    def __str__(self) -> str:
        text = f"{self.matched} tensors matched"
        if self.kept_classifier:
            text += ", its classifier kept"
        if self.new:
            text += f"; new here: {', '.join(self.new)}"
        if self.unused:
            more = " ..." if len(self.unused) > 4 else ""
            text += f"; unused from the file: {', '.join(self.unused[:4])}{more}"
        return text


def read_weights(source: str) -> dict[str, Tensor]:
    """Tensors of a local .safetensors or .pth file, or of a torchvision weight name.

    Names are torchvision's and timm's; those of both public MFM codes are translated.
    Raises UserError for a missing file, a name torchvision doesn't know, a download that fails,
    and a pickle that would need to run code.
    """
    path = Path(source).expanduser()
    if path.suffix == ".safetensors":
        try:
            return _timm_names(safetensors.torch.load_file(path))
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"weights {path} can't be read: {error}") from None
    if config.is_path(source):
        check_weights(source)
        return _timm_names(_state_dict(checkpoint.load_pickle(path), path))
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
    file = _cached(weights)
    if not file.exists():
        try:
            weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"weights {source} could not be downloaded ({error}); fetch {weights.url} "
                f"elsewhere and put the file into {file.parent}"
            ) from None
    return _state_dict(checkpoint.load_pickle(file), file)


def _cached(weights: torchvision.models.WeightsEnum) -> Path:
    """Where torch.hub keeps a file of torchvision's."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def weights_checksum(source: str) -> str:
    """SHA-256, in hexadecimal, of the file that `read_weights` has read.

    Raises UserError where a torchvision file's name, which carries the first digits of its own
    checksum, contradicts it.
    """
    path = Path(source).expanduser()
    if not config.is_path(source):
        path = _cached(_torchvision_enum(source))
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    told = re.fullmatch(r".*-([0-9a-f]{8,})", path.stem)
    if not config.is_path(source) and told and not found.startswith(told[1]):
        raise UserError(
            f"{path} is damaged or another file: its SHA-256 starts with {found[:8]}, not with "
            f"{told[1]} as its name says; remove it, and it is downloaded again"
        )
    return found


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint, out of the usual wrappers."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _timm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the paper code's ViT under timm's names; all others as they are.

    There, queries and values have a bias each and keys have none; in timm the three are one.
    """
    found = dict(tensors)
    for name in tensors:
        if name.endswith(".attn.q_bias"):
            block = name.removesuffix("q_bias")
            queries, values = found.pop(name), found.pop(f"{block}v_bias")
            found[f"{block}qkv.bias"] = torch.cat([queries, torch.zeros_like(queries), values])
    return found


def load_backbone(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    keep_classifier: bool = False,
) -> LoadReport:
    """Load a backbone's weights into a classifier; its classifier layer starts new.

    With `keep_classifier`, that is loaded too where the file has one with as many classes.
    Raises UserError unless every tensor of the backbone is in the file with its shape: a file of
    another model must not be mistaken for an initialisation.
    """
    found = {plain_name(name): tensor for name, tensor in tensors.items()}
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
    # Layers without parameters, as a ViT's norm is with mean pooling, own nothing.
    own = {name for name, module in model.named_children() if module.state_dict()}
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
    kept = False
    if keep_classifier:
        classifier = {
            name: found[name]
            for name, tensor in model.state_dict().items()
            if name.startswith(_CLASSIFIER) and name in found and found[name].shape == tensor.shape
        }
        kept = len(classifier) == len(model.state_dict()) - len(wanted) > 0
        if kept:
            matched |= classifier
    model.load_state_dict(matched, strict=False)
    return LoadReport(
        matched=len(matched),
        kept_classifier=kept,
        new=tuple(name for name in model.state_dict() if name not in matched),
        unused=tuple(name for name in found if name not in matched),
    )


def plain_name(name: str) -> str:
    """A parameter's name without what other code puts around a backbone."""
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
