"""Conversion of checkpoints of the public MFM codes for torchvision, timm or this package."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mfm.errors import UserError
from mfm.models import weights
from mfm.models.interchange import Network, describe_network, with_new_classifier, write_plain
from mfm.models.settings import Model
from mfm.version import code_version

_DECODER = "decoder."


def read(path: Path, *, source: str) -> dict[str, Tensor]:
    """Tensors under timm's names, without the decoder.

    Raises UserError for a file that isn't what `source` publishes.
    """
    tensors = weights.read_weights(str(path))
    encoder = [name for name in tensors if name.startswith("encoder.")]
    if source == "upstream" and encoder:
        raise UserError(f"{path} has names such as {encoder[0]}: it is --from paper")
    if source == "paper" and not encoder and any(name.startswith(_DECODER) for name in tensors):
        raise UserError(f"{path} has a decoder and no names with 'encoder.': it is --from upstream")
    return {
        weights.plain_name(name): tensor
        for name, tensor in tensors.items()
        if not name.startswith(_DECODER)
    }


def convert(
    path: Path, out: Path, *, source: str, target: str, backbone: str, new_classifier: int = 0
) -> Network:
    """Write `out`, after the network itself has taken the tensors; returns what they are of.

    Raises UserError where they are of another backbone, or of more than one.
    """
    if target == "safetensors" and out.suffix != ".safetensors":
        raise UserError(f"OUT is {out}: --to safetensors writes a file ending in .safetensors")
    if out.suffix not in (".safetensors", ".pth", ".pt"):
        raise UserError(f"OUT is {out}: its name ends in .safetensors or .pth")
    tensors = read(path, source=source)
    network = describe_network(tensors, model=Model(backbone=backbone))
    model = network.create()
    report = weights.load_backbone(model, tensors, source=str(path), keep_classifier=True)
    if report.unused or (network.classes and not report.kept_classifier):
        odd = (*report.unused, *report.new)
        raise UserError(f"{path} is not of {backbone} alone: {', '.join(odd[:4])}")
    tensors = model.state_dict()
    if new_classifier:
        network = with_new_classifier(tensors, network, new_classifier)
    if target == "safetensors":
        model = network.create()
        model.load_state_dict(tensors)
        weights.save_weights(
            model,
            out,
            {
                "stage": "convert",
                "arm": path.stem,
                "seed": "0",
                "backbone": backbone,
                "classes": str(network.classes),
                "train_images": "0",
                "source": source,
                "source_sha256": weights.weights_checksum(str(path)),
                "config_hash": "-",
                "code_version": code_version(),
            },
        )
    else:
        write_plain(tensors, network, target=target, path=out)
    return network
