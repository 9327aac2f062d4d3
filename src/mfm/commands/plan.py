"""Plan of an experiment: what more finetunings and pretrainings would find, and what they cost.

    mfm plan
    mfm plan --configfile config.yaml configs/holdout.yaml

From the runs that are finished, or from assumptions where none is. Runs and writes nothing.
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.evaluation.results import collect_rows
from mfm.experiment.layout import Layout
from mfm.experiment.resolve import finetunings
from mfm.experiment.settings import load_yaml
from mfm.reporting.plan import document
from mfm.reporting.render_markdown import to_markdown


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("plan", __doc__)
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[Path("config.yaml")],
        metavar="FILE",
        help="the experiment, later files laid over earlier ones (default: config.yaml)",
    )
    experiment = load_yaml(*parser.parse_args(words).configfile)
    layout = Layout(experiment.results)
    rows = [layout.evaluation(arm, seed).row for arm, seed in finetunings(experiment)]
    rows = [row for row in rows if Path(row).exists()]
    results = collect_rows(rows, metric=experiment.metric, k=experiment.evaluate.top_k)
    print(to_markdown(document(experiment, results)), end="")
