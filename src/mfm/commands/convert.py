"""Conversion of checkpoints of the public MFM codes for torchvision, timm or this package.

    mfm convert saved_model_15.pth backbone.safetensors --from upstream --to safetensors
    mfm convert ckpt_epoch_299.pth vit.pth --from paper --to timm --backbone vit_base_patch16_224

IN is never executed: tensors and plain values are read, settings become inert objects, and all else
is refused. The decoder of a pretraining is left out. `--to safetensors` writes what this package
saves itself, for `weights:` of an arm and for `mfm evaluate`.
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.models.conversion import convert
from mfm.models.interchange import TARGETS, add_new_classifier
from mfm.models.weights import weights_checksum


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("convert", __doc__)
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
    options = parser.parse_args(words)
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
        f"{weights_checksum(str(options.input))}"
    )
