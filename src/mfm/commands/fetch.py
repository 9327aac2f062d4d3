"""Fetch of initial weights by their name, before any training.

OUT is a small JSON that says which file it is and what its SHA-256 is. Without a network, the error
names the file to fetch elsewhere and the folder to put it into.

    mfm fetch torchvision/ResNet50_Weights.IMAGENET1K_V1 out.json
"""

from __future__ import annotations

import json
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.files.atomic import write_text
from mfm.models.weights import read_weights, weights_checksum


def fetch(name: str, out: Path) -> None:
    """Download a weight file unless it is in the cache, and write its checksum.

    Raises UserError where it can't be had, is damaged, or is another file than its name says.
    """
    tensors = read_weights(name)
    found = {"weights": name, "sha256": weights_checksum(name), "tensors": len(tensors)}
    write_text(out, json.dumps(found, indent=2) + "\n")
    print(f"{name}: {len(tensors)} tensors, SHA-256 {found['sha256']}")


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("fetch", __doc__)
    parser.add_argument("name", help="e.g. torchvision/ResNet50_Weights.IMAGENET1K_V1")
    parser.add_argument("out", type=Path, help="JSON to write")
    options = parser.parse_args(words)
    fetch(options.name, options.out)
