"""Tracking of runs: what they left so far, to MLflow or TensorBoard.

    mfm track results --to mlflow --at sqlite:///mlflow.db   (or http://SERVER:5000)
    mfm track results --to tensorboard

Metrics of each epoch, settings, accuracies, small files and the weights' path and sum, from the
files of the results folder alone, so also of runs that go on. Each run is known by its
configuration's hash and seed: called again, it adds what is new, and nothing where nothing is.
"""

from __future__ import annotations

import time
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.experiment.layout import Layout
from mfm.processes.locks import only_writer
from mfm.reporting.tracking import TRACKERS, send_all
from mfm.reporting.tracking.runs import read


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("track", __doc__)
    parser.add_argument("results", type=Path, help="a results folder")
    parser.add_argument("--to", choices=TRACKERS, required=True, help="the tracker")
    parser.add_argument(
        "--at", help="its address, database file or folder (default: below RESULTS/tracking/)"
    )
    parser.add_argument(
        "--every", type=float, help="send again after so many seconds, until all runs are done"
    )
    options = parser.parse_args(words)
    layout = Layout(options.results.as_posix())
    at = options.at or layout.tracked(options.to)
    while True:
        runs = read(options.results)
        with only_writer(Path(layout.tracking)):
            sent = send_all(runs, to=options.to, at=at)
        print(f"{at}: {len(runs)} runs, {len(sent)} with something new", flush=True)
        if options.every is None or all(run.state == "done" for run in runs):
            return
        time.sleep(options.every)
