"""Declaration of an experiment's question, before its first training.

Adds a line to question.csv: what is asked, when, and how many training runs were there by then.

    mfm declare --arm mfm --baseline scratch --metric top1 --runs 8 --pretrainings 8 \\
        --out results/question.csv
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.experiment.layout import finished_runs
from mfm.experiment.question import Declaration, declare


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("declare", __doc__)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--runs", type=int, required=True, help="finetunings of the arm")
    parser.add_argument("--pretrainings", type=int, required=True, help="of the arm")
    parser.add_argument("--out", type=Path, required=True, help="results/question.csv")
    options = parser.parse_args(words)
    declare(
        options.out,
        Declaration(
            declared=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            arm=options.arm,
            baseline=options.baseline,
            metric=options.metric,
            runs=options.runs,
            pretrainings=options.pretrainings,
            finished=len(finished_runs(options.out.parent)),
        ),
    )
