"""Evaluation of a finetuned model: every image counts once, whatever the number of ranks.

Leaves a CSV of one row (the columns of results.csv) and a parquet of one row per image; of a
further evaluation (`name` in its config.json) a CSV of one row alone.

    mfm evaluate --config results/evaluate/config.json \\
        --manifest data/fashion-mnist/manifest.parquet \\
        --weights results/finetune/mfm/seed0/model.safetensors \\
        --csv row.csv --predictions predictions.parquet
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.run import run
from mfm.processes.ranks import begin, process_group
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("evaluate", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="resolved JSON of this job")
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--pretraining", default="-", help="the arm's, for the result row")
    parser.add_argument("--csv", type=Path, required=True, help="the result row")
    parser.add_argument("--predictions", type=Path, help="one row per image, of 'evaluate'")
    parser.add_argument("--workers", type=int, default=1, help="loader processes per rank")
    options = parser.parse_args(words)
    job = load_json(EvaluateJob, options.config)
    begin()
    with process_group() as process:
        run(
            job,
            manifest_path=options.manifest,
            weights=options.weights,
            pretraining=options.pretraining,
            row=options.csv,
            predictions=options.predictions,
            process=process,
            workers=options.workers,
        )
