"""Declaration of an experiment's question.

Adds a line to question.csv unless its last one asks the same: what is asked, when, and how many
training runs had finished by then. A training does the same before it begins.

    mfm declare results/question.csv \\
        '{"arm": "mfm", "baseline": "scratch", "metric": "top1", "runs": 8, "pretrainings": 8}'
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.experiment.question import declare_now


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("declare", __doc__)
    parser.add_argument("file", type=Path, help="results/question.csv")
    parser.add_argument("asked", help="JSON")
    options = parser.parse_args(words)
    declare_now(options.file, options.asked)
