"""Draft of an experiment for your own pictures: mine.yaml, complete and commented, fit for here.

    mfm init pictures/
    mfm init pictures/ --out mine.yaml --time 30m

Looks at the pictures (train/CLASS/ and val/CLASS/; train/CLASS/ or CLASS/ alone are divided; or as
labels.csv says there, with columns path, label, and split and group where wanted; those without
labels in unlabelled/) and at the machine, times some steps, and writes what to change and
what to expect. Nothing is trained; an existing file is not overwritten. Then

    mfm run mine.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.errors import UserError
from mfm.planning.budget import seconds_of
from mfm.planning.drafting import draft_file


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("init", __doc__)
    parser.add_argument("folder", type=Path, help="your pictures")
    parser.add_argument(
        "--out", type=Path, default=Path("mine.yaml"), help="file to write (%(default)s)"
    )
    parser.add_argument(
        "--labels", type=Path, help="CSV file of labels (default: the folder's labels.csv, if any)"
    )
    parser.add_argument(
        "--time", type=_seconds, help="fit the experiment to this time: 30m, 8h (default: none)"
    )
    options = parser.parse_args(words)
    draft_file(options.folder, options.out, labels=options.labels, seconds=options.time)


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
