"""Backbones from timm, the reconstruction head, and initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.files.atomic import explaining_full_disk, open_to_others, replacing
from mfm.models.metadata import read_metadata, to_header
from mfm.models.sources import source_of

# What other code puts around a backbone's parameter names: DistributedDataParallel, and the
# paper code's pretraining model.
_PREFIXES = ("module.", "encoder.", "backbone.")
_CLASSIFIER = ("fc.", "head.", "classifier.", "head_dist.")
# Norms between the pooling and the classifier, of ViTs with mean pooling and of ConvNeXts: a
# pretraining without labels leaves none, or one that it never trained.
_LAST_NORM = ("fc_norm.", "head.norm.")


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
    """Tensors of a name of weights (see `mfm.models.sources`), under timm's names.

    Names of torchvision are timm's; those of both public MFM codes are translated.
    Raises UserError for a missing file, an unknown name, a download that fails, and a pickle that
    would need to run code.
    """
    return _timm_names(source_of(source).read(source))


def weights_checksum(source: str) -> str:
    """SHA-256, in hexadecimal, of the file that `read_weights` has read.

    Raises UserError where the file's name, which may carry the first digits, contradicts it.
    """
    return source_of(source).checksum(source)


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
    another model must not be mistaken for initial weights.
    """
    found = {plain_name(name): tensor for name, tensor in tensors.items()}
    wanted = {
        name: tensor for name, tensor in model.state_dict().items() if not _of_classifier(name)
    }
    matched = {
        name: found[name]
        for name, tensor in wanted.items()
        if name in found and found[name].shape == tensor.shape
    }
    # Files from before PyTorch 0.4.1 have no such counters; nothing reads their value here.
    missing = [
        name
        for name in wanted
        if name not in matched
        and not name.endswith("num_batches_tracked")
        and not (name.startswith(_LAST_NORM) and name not in found)
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
            f"backbone tensors match ({why}); give the weights of this network, or change "
            "model.backbone, model.stem_stride or model.options"
        )
    broken = [name for name, tensor in matched.items() if not _finite(tensor)]
    if broken:
        raise UserError(
            f"weights {source} hold NaN or infinite numbers, in {len(broken)} of {len(matched)} "
            f"tensors ({broken[0]} ...): the training that left them failed; give other weights"
        )
    # Layers without parameters, as a ViT's norm is with mean pooling, own nothing.
    own = {name for name, module in model.named_children() if module.state_dict()}
    more = [
        name
        for name in found
        if name not in wanted and name.split(".")[0] in own and not _of_classifier(name)
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
            if _of_classifier(name) and name in found and found[name].shape == tensor.shape
        }
        norms = all(name in matched for name in wanted if name.startswith(_LAST_NORM))
        kept = norms and len(classifier) == len(model.state_dict()) - len(wanted) > 0
        if kept:
            matched |= classifier
    model.load_state_dict(matched, strict=False)
    return LoadReport(
        matched=len(matched),
        kept_classifier=kept,
        new=tuple(name for name in model.state_dict() if name not in matched),
        unused=tuple(name for name in found if name not in matched),
    )


def _of_classifier(name: str) -> bool:
    return name.startswith(_CLASSIFIER) and not name.startswith(_LAST_NORM)


def load_part(part: nn.Module, tensors: Mapping[str, Tensor], *, prefix: str) -> bool:
    """Load a part of a model from tensors named `prefix` and so on; False where they don't fit."""
    own = part.state_dict()
    found = {
        name: tensors[f"{prefix}{name}"]
        for name, tensor in own.items()
        if f"{prefix}{name}" in tensors and tensors[f"{prefix}{name}"].shape == tensor.shape
    }
    if found.keys() != own.keys():
        return False
    part.load_state_dict(found)
    return True


def _finite(tensor: Tensor) -> bool:
    return tensor.is_meta or bool(torch.isfinite(tensor).all())


def plain_name(name: str) -> str:
    """A parameter's name without what other code puts around a backbone."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a model's state as safetensors with metadata, atomically."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with explaining_full_disk(path), replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=to_header(metadata))
        open_to_others(temporary)


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
