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

import pandas as pd

from mfm.commands.arguments import create_parser
from mfm.data import manifest
from mfm.data.settings import evaluated_split
from mfm.evaluation import further_evaluations
from mfm.evaluation.classifier import Subject, result_row, save_predictions
from mfm.evaluation.job import EvaluateJob
from mfm.files.atomic import write_text
from mfm.models.backbones import create_backbone
from mfm.models.weights import load_weights
from mfm.processes.ranks import begin, process_group
from mfm.settings.section import load_json
from mfm.training.provenance import provenance


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
    split = evaluated_split(job.dataset)
    images = manifest.load(options.manifest, split)
    crop = job.evaluation.crop
    model = create_backbone(job.model, classes=len(images.classes), image_size=crop)
    weights = load_weights(model, options.weights)
    with process_group() as process:
        subject = Subject(
            model=model, images=images, job=job, process=process, workers=options.workers
        )
        further = further_evaluations(job.evaluation).get(job.name)
        if further is not None:
            row = {"arm": weights["arm"], "seed": int(weights["seed"])} | further.measure(subject)
            said = f"{job.name} on {len(images)} images of split '{split}'"
        else:
            found = subject.predict()
            row = result_row(
                found,
                finetuned=options.weights,
                weights=weights,
                pretraining=options.pretraining,
            )
            said = f"top-1 {found.top1:.2f} on {len(images)} images of split '{split}'"
            if process.is_main and options.predictions is not None:
                facts = provenance(
                    job, precision_asked=job.evaluation.precision, device=process.device
                )
                save_predictions(found, images, options.predictions, {**facts, "split": split})
    if process.is_main:
        write_text(options.csv, pd.DataFrame([row]).to_csv(index=False))
        print(said, flush=True)
