"""Note of an experiment that is about to be evaluated on a split of a dataset.

Adds a line to data/NAME/looks.csv unless it has that experiment, and leaves OUT, which says which.

    mfm look --dataset data/fashion-mnist --split val --experiment 1a2b3c4d5e6f \\
        --results results --out results/evaluate/look.txt
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.evaluation import looks
from mfm.files.atomic import write_text


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("look", __doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="data/NAME")
    parser.add_argument("--split", required=True)
    parser.add_argument("--experiment", required=True, help="hash of its settings")
    parser.add_argument("--results", required=True, help="the experiment's results folder")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    looks.note(
        options.dataset,
        split=options.split,
        experiment=options.experiment,
        time=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        results=options.results,
    )
    write_text(options.out, f"{options.experiment} {options.split}\n")
