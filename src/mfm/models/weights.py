"""Backbones from timm, the reconstruction head, and initial weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.files.atomic import explaining_full_disk, open_to_others, replacing
from mfm.models.fitting import fit_channels, fit_normalisation, fit_positions
from mfm.models.metadata import read_metadata, to_header
from mfm.models.origin import Normalisation, Origin
from mfm.models.sources import source_of
from mfm.models.translation import to_timm, with_wanted_biases

# What other code puts around a backbone's parameter names: DistributedDataParallel, and the
# paper code's pretraining model.
_PREFIXES = ("module.", "encoder.", "backbone.")
_CLASSIFIER = ("fc.", "head.", "classifier.", "head_dist.")
# Norms between the pooling and the classifier, of ViTs with mean pooling and of ConvNeXts: a
# pretraining without labels leaves none, or one that it never trained.
_LAST_NORM = ("fc_norm.", "head.norm.")

_UNKNOWN = Origin()
# What a Swin's table says where a map has become smaller than a window.
_TABLE = r"layers\..*\.relative_position_bias_table"
_WINDOWS = (
    ": windows shrink with the image; take the size that these weights are for, or set "
    "model.options to {always_partition: true}"
)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a weight file gave a model."""

    matched: int
    new: tuple[str, ...]  # of the model, not in the file: the classifier
    unused: tuple[str, ...]  # of the file, not in the model
    kept_classifier: bool = False
    fitted: tuple[str, ...] = ()  # what was done to tensors so that they fit
    unfitted: tuple[str, ...] = ()  # what could not be done

    def __str__(self) -> str:
        text = f"{self.matched} tensors matched"
        if self.kept_classifier:
            text += ", its classifier kept"
        text += "".join(f"; {each}" for each in (*self.fitted, *self.unfitted))
        if self.new:
            text += f"; new here: {', '.join(self.new)}"
        if self.unused:
            more = " ..." if len(self.unused) > 4 else ""
            text += f"; in the file besides: {', '.join(self.unused[:4])}{more}"
        return text

    def facts(self) -> dict[str, str]:
        """What was done so that the tensors fit, and what could not be."""
        said = "; ".join((*self.fitted, *self.unfitted))
        return {"fitted": said} if said else {}


def read_weights(source: str) -> dict[str, Tensor]:
    """Tensors of a name of weights (see `mfm.models.sources`), under timm's names.

    Names of torchvision's ResNets are timm's; those of its other networks and of both public MFM
    codes are translated.
    Raises UserError for a missing file, an unknown name, a download that fails, and a pickle that
    would need to run code.
    """
    return to_timm(source_of(source).read(source))


def weights_checksum(source: str) -> str:
    """SHA-256, in hexadecimal, of the file that `read_weights` has read.

    Raises UserError where the file's name, which may carry the first digits, contradicts it.
    """
    return source_of(source).checksum(source)


def load_backbone(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    keep_classifier: bool = False,
    origin: Origin = _UNKNOWN,
    normalisation: Normalisation | None = None,
) -> LoadReport:
    """Load a backbone's weights into a classifier; its classifier layer starts new.

    With `keep_classifier`, that is loaded too where the file has one with as many classes. Where
    `origin` tells of another image size or normalisation than the network is for and images are
    given in, the tensors are fitted.

    Raises UserError unless every tensor of the backbone is in the file with its shape: a file of
    another model must not be mistaken for initial weights.
    """
    found = with_wanted_biases(
        {plain_name(name): tensor for name, tensor in tensors.items()}, model.state_dict().keys()
    )
    converted = fit_channels(model, found)
    fitted = [*converted, *fit_positions(model, found)]
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
            f"{_WINDOWS if re.fullmatch(_TABLE, first) else ''}"
            if first in found
            else f"{first} is missing"
        )
        raise UserError(
            f"weights {source} are of another model: {len(wanted) - len(missing)} of {len(wanted)} "
            f"backbone tensors match ({why}); give the weights of this network, or change "
            "model.backbone, model.stem_stride or model.options"
        )
    _check_finite(matched, source)
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
    known = {"own": origin.normalisation, "given": normalisation}
    done, left = fit_normalisation(model, matched, **known, converted=bool(converted))
    classifier = _classifier(model, found) if keep_classifier else {}
    matched |= classifier
    model.load_state_dict(matched, strict=False)
    return LoadReport(
        matched=len(matched),
        kept_classifier=bool(classifier),
        new=tuple(name for name in model.state_dict() if name not in matched),
        unused=tuple(name for name in found if name not in matched),
        fitted=(*fitted, *done),
        unfitted=tuple(left),
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


def _classifier(model: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a model's classifier; none unless they fit, and its norm is there too."""
    own = {n: t for n, t in model.state_dict().items() if n.startswith((*_CLASSIFIER, *_LAST_NORM))}
    whole = all(name in found and found[name].shape == own[name].shape for name in own)
    return {name: found[name] for name in own if _of_classifier(name)} if whole else {}


def _check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    broken = [n for n, t in tensors.items() if not t.is_meta and not torch.isfinite(t).all()]
    if broken:
        raise UserError(
            f"weights {source} hold NaN or infinite numbers, in {len(broken)} of {len(tensors)} "
            f"tensors ({broken[0]} ...): the training that left them failed; give other weights"
        )


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
