"""Fetch of initial weights by their name, before any training.

OUT is a small JSON that says which file it is, its SHA-256, the revision of its repository, and
what it was trained on. Without a network, the error names the file to fetch elsewhere and the
folder to put it into.

    mfm fetch torchvision/ResNet50_Weights.IMAGENET1K_V1 out.json
    mfm fetch timm/resnet50.a1_in1k out.json
"""

from __future__ import annotations

import json
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.files.atomic import write_text
from mfm.models.sources import origin_of
from mfm.models.weights import read_weights, weights_checksum


def fetch(name: str, out: Path) -> None:
    """Download a weight file unless it is in the cache, and write what is known of it.

    Raises UserError where it can't be had, is damaged, or is another file than its name says.
    """
    tensors, checksum, origin = read_weights(name), weights_checksum(name), origin_of(name)
    file = {} if origin.file is None else {"file": str(origin.file)}
    found = {"weights": name, "sha256": checksum, "tensors": len(tensors)} | file | origin.facts()
    write_text(out, json.dumps(found, indent=2) + "\n")
    said = "".join(f", {key.replace('_', ' ')} {value}" for key, value in origin.facts().items())
    print(f"{name}: {len(tensors)} tensors, SHA-256 {checksum}{said}")


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("fetch", __doc__)
    parser.add_argument("name", help="e.g. torchvision/ResNet50_Weights.IMAGENET1K_V1")
    parser.add_argument("out", type=Path, help="JSON to write")
    options = parser.parse_args(words)
    fetch(options.name, options.out)
