"""`python -m mfm.convert IN OUT`: checkpoints of the public MFM codes for torchvision, timm or mfm.

    python -m mfm.convert saved_model_15.pth backbone.safetensors --from upstream --to safetensors
    python -m mfm.convert ckpt_epoch_299.pth vit.pth --from paper --to timm \\
        --backbone vit_base_patch16_224

IN is never executed: tensors and plain values are read, settings become inert objects, and all else
is refused. The decoder of a pretraining is left out. `--to safetensors` writes what this package
saves itself, for `weights:` of an arm and for `python -m mfm.evaluate`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from mfm import models
from mfm.errors import UserError, exits_on_user_error
from mfm.plain import (
    TARGETS,
    Network,
    add_new_classifier,
    describe_network,
    with_new_classifier,
    write_plain,
)
from mfm.version import code_version

_DECODER = "decoder."


def read(path: Path, *, source: str) -> dict[str, Tensor]:
    """Tensors under timm's names, without the decoder.

    Raises UserError for a file that isn't what `source` publishes.
    """
    tensors = models.read_weights(str(path))
    encoder = [name for name in tensors if name.startswith("encoder.")]
    if source == "upstream" and encoder:
        raise UserError(f"{path} has names such as {encoder[0]}: it is --from paper")
    if source == "paper" and not encoder and any(name.startswith(_DECODER) for name in tensors):
        raise UserError(f"{path} has a decoder and no names with 'encoder.': it is --from upstream")
    return {
        models.plain_name(name): tensor
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
    network = describe_network(tensors, backbone=backbone)
    model = network.create()
    report = models.load_backbone(model, tensors, source=str(path), keep_classifier=True)
    if report.unused or (network.classes and not report.kept_classifier):
        odd = (*report.unused, *report.new)
        raise UserError(f"{path} is not of {backbone} alone: {', '.join(odd[:4])}")
    tensors = model.state_dict()
    if new_classifier:
        network = with_new_classifier(tensors, network, new_classifier)
    if target == "safetensors":
        model = network.create()
        model.load_state_dict(tensors)
        models.save_weights(
            model,
            out,
            {
                "stage": "convert",
                "init": path.stem,
                "seed": "0",
                "backbone": backbone,
                "classes": str(network.classes),
                "train_images": "0",
                "source": source,
                "source_sha256": models.weights_checksum(str(path)),
                "config_hash": "-",
                "code_version": code_version(),
            },
        )
    else:
        write_plain(tensors, network, target=target, path=out)
    return network


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, metavar="IN", help="a .pth file of either code")
    parser.add_argument("out", type=Path, metavar="OUT", help=".safetensors or .pth")
    parser.add_argument(
        "--from", dest="source", choices=("upstream", "paper"), required=True, help="whose file"
    )
    parser.add_argument(
        "--to", dest="target", choices=(*TARGETS, "safetensors"), required=True, help="for whom"
    )
    parser.add_argument("--backbone", default="resnet50", help="timm name (default: resnet50)")
    add_new_classifier(parser)
    options = parser.parse_args()
    network = convert(
        options.input,
        options.out,
        source=options.source,
        target=options.target,
        backbone=options.backbone,
        new_classifier=options.new_classifier,
    )
    print(
        f"wrote {options.out}: {network.model.backbone}, {network.classes} classes; IN's SHA-256 "
        f"{models.weights_checksum(str(options.input))}"
    )


if __name__ == "__main__":
    main()
