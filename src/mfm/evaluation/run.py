"""Run of an evaluation: its job and a finetuned model in, its files out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from mfm.data.linking import manifest
from mfm.errors import UserError
from mfm.evaluation import parse_further
from mfm.evaluation.classifier import Subject, result_row, save_predictions
from mfm.evaluation.job import EvaluateJob
from mfm.files.atomic import write_text
from mfm.models.backbones import create_backbone
from mfm.models.weights import load_weights
from mfm.processes.ranks import Process
from mfm.training.provenance import provenance


def run(
    job: EvaluateJob,
    *,
    manifest_path: Path,
    weights: Path,
    pretraining: str | None,
    row: Path,
    predictions: Path | None,
    process: Process,
    workers: int,
) -> None:
    """Evaluate, and leave a CSV of one row; of the table's evaluation also each image's prediction.

    `pretraining` is the name of the arm's, for the row; None takes what the weights say. Raises
    UserError for weights of another model, for an unreadable image, and for outputs that are no
    numbers.
    """
    split = job.evaluation.split
    images = manifest.load(manifest_path, split)
    crop = job.evaluation.crop
    model = create_backbone(job.model, classes=len(images.classes), image_size=crop)
    said = load_weights(model, weights)
    if "arm" not in said:
        raise UserError(f"{weights} is no finetuned model of this version: finetune it again")
    subject = Subject(model=model, images=images, job=job, process=process, workers=workers)
    if job.further is not None:
        found: dict[str, object] = {"arm": said["arm"], "seed": int(said["seed"])}
        found |= parse_further(job.name, job.further).measure(subject)
        text = f"{job.name} on {len(images)} images of split '{split}'"
    else:
        predicted = subject.predict(all_classes=predictions is not None)
        found = result_row(
            predicted,
            finetuned=weights,
            weights=said,
            pretraining=pretraining or said.get("pretraining", "-"),
        )
        text = f"top-1 {predicted.top1:.2f} on {len(images)} images of split '{split}'"
        if process.is_main and predictions is not None:
            facts = provenance(job, precision_asked=job.evaluation.precision, device=process.device)
            save_predictions(predicted, images, predictions, {**facts, "split": split})
    if process.is_main:
        write_text(row, _csv(found))
        print(text, flush=True)


def _csv(row: Mapping[str, object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row.keys(), row.values()])
    return text.getvalue()
