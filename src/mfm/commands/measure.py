"""Measurement: some steps of a training, and an evaluation, timed, for `mfm init`.

Leaves a JSON file and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

from mfm.commands.arguments import add_config, create_parser
from mfm.evaluation.job import EvaluateJob
from mfm.experiment.jobs import load_training
from mfm.files.atomic import write_text
from mfm.planning.steps import measure, plain
from mfm.processes.ranks import begin, process_group
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("measure", __doc__)
    add_config(parser)
    parser.add_argument("--evaluation", type=Path, help="resolved JSON of an evaluation")
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument("--seconds", type=float, default=6.0, help="of steps (%(default)g)")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--json", type=Path, required=True, help="what was measured")
    options = parser.parse_args(words)
    evaluation = options.evaluation and load_json(EvaluateJob, options.evaluation)
    begin()
    with process_group() as process:
        found = measure(
            load_training(options.config),
            evaluation,
            manifest_path=options.manifest,
            seconds=options.seconds,
            workers=options.workers,
            process=process,
        )
        write_text(options.json, json.dumps(plain(found)) + "\n")
