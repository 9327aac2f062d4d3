"""Verification of a results folder: whether each file is what its stage left and the next one read.

    mfm verify results/

By the SHA-256 sums in the records that every stage leaves beside its files, so also for a folder
that was moved or sent. What was read from elsewhere, images and published weights, is checked where
it is still there. Names every file that doesn't fit, and ends with status 2 where there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.errors import UserError
from mfm.reporting.verify import verify


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("verify", __doc__)
    parser.add_argument("folder", type=Path, help="a results folder")
    folder = parser.parse_args(words).folder
    found = verify(folder)
    for line in found.problems:
        print(line, file=sys.stderr)
    for file in found.elsewhere:
        print(f"not checked: {file}, outside {folder}, is gone or has changed since it was read")
    if found.problems:
        count = len(found.problems)
        raise UserError(f"{count} file{'s' * (count > 1)} of {folder} can't be trusted")
    print(f"{folder}: {found.files:,} files of {found.stages:,} stages fit together")
