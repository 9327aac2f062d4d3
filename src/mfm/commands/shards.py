"""Pictures of a folder as tars of many: for file systems that millions of small files are slow on.

OUT is read in the place of FOLDER, as dataset.source or dataset.unlabelled, and gives the same
training, bit by bit. Of a folder with train/ and val/, each becomes a folder of tars of its own.
FOLDER is left as it is, and an OUT that is there is not overwritten.

    mfm shards pictures pictures-tars
    mfm shards pictures/unlabelled pictures-tars/unlabelled --size 500M
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.data.folders.packing import pack
from mfm.files.lines import shown

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def size(text: str) -> int:
    """The type of an option that is a number of bytes: 1G, 500M."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.strip().upper())
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError("give a number of bytes, as 1G or 500M")
    return int(found[1]) * _UNITS[found[2]]


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("shards", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="pictures, in class folders")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--size", type=size, default="1G", help="of a tar, at most (default: %(default)s)"
    )
    options = parser.parse_args(words)
    for split, (files, tars) in pack(options.folder, options.out, size=options.size).items():
        print(f"{shown(options.out / split)}: {files:,} files in {tars:,} tar{'s' * (tars > 1)}")
