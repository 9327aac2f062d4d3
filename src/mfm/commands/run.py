"""Run of a whole experiment, in any folder: Snakemake on the workflow that mfm came with.

    mfm run mine.yaml
    mfm run mine.yaml -n
    mfm run tiny results/tiny/table.md
    mfm run default holdout --resources gpu=1

CONFIG is a file of settings, or the name of one that came along: `default`, config.yaml, and those
of configs/. Later ones are laid over earlier ones. All words after them are Snakemake's own: a
target, and its options; without any it uses all cores. Results and data are put below the folder of
the call.
"""

from __future__ import annotations

import argparse
import os
import sys

from mfm.calling.workflow import command, configurations
from mfm.commands.arguments import create_parser


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("run", __doc__)
    parser.usage = "mfm run CONFIG [CONFIG ...] [SNAKEMAKE'S WORDS ...]"
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given: list[str] = parser.parse_args(words).words
    files = configurations(given)
    call = command(files, given[len(files) :])
    sys.stdout.flush()
    os.execv(call[0], call)  # in this process's place: signals and the exit code are Snakemake's
