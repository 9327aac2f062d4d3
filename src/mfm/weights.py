"""`python -m mfm.weights NAME OUT`: torchvision's weights into its cache, before any training.

OUT is a small JSON that says which file it is and what its SHA-256 is. Without a network, the error
names the file to fetch elsewhere and the folder to put it into.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mfm import models
from mfm.atomic import write_text
from mfm.errors import exits_on_user_error


def fetch(name: str, out: Path) -> None:
    """Download a torchvision weight file unless it is in the cache, and write its checksum.

    Raises UserError where it can't be had, is damaged, or is another file than its name says.
    """
    tensors = models.read_weights(name)
    found = {"weights": name, "sha256": models.weights_checksum(name), "tensors": len(tensors)}
    write_text(out, json.dumps(found, indent=2) + "\n")
    print(f"{name}: {len(tensors)} tensors, SHA-256 {found['sha256']}")


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="e.g. torchvision/ResNet50_Weights.IMAGENET1K_V1")
    parser.add_argument("out", type=Path, help="JSON to write")
    options = parser.parse_args()
    fetch(options.name, options.out)


if __name__ == "__main__":
    main()
