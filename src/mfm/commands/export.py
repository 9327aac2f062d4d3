"""Export of a run's weights for plain torchvision or timm, with a model card.

    mfm export results/finetune/mfm/seed0/model.safetensors published/mfm --to timm
    mfm export results/pretrain/mfm/seed0/backbone.safetensors published/mfm \\
        --to torchvision

Leaves model.safetensors, which loads with strict=True, and README.md in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.models.interchange import TARGETS, add_new_classifier
from mfm.reporting.export import export


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("export", __doc__)
    parser.add_argument("weights", type=Path, help="backbone.safetensors or model.safetensors")
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--to", choices=TARGETS, default="timm", help="whose model takes it")
    parser.add_argument("--results", type=Path, help="results.csv (default: the one above)")
    add_new_classifier(parser)
    options = parser.parse_args(words)
    note = export(
        options.weights,
        options.folder,
        target=options.to,
        results=options.results,
        new_classifier=options.new_classifier,
    )
    print(f"wrote {options.folder / 'model.safetensors'} and {options.folder / 'README.md'}")
    if note is not None:
        print(f"mfm: note: {note}", file=sys.stderr)
