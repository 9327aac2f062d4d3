"""`python -m mfm.evaluate`, alone or by `python -m mfm.launch`: accuracy of a finetuned model.

Every image counts once, whatever the number of ranks and the batch size. Leaves a CSV of one row
(the columns of results.csv) and a parquet of one row per image.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn import functional as F

from mfm import config, precision, stage
from mfm.atomic import replacing
from mfm.data import manifest
from mfm.data.loader import EvalBatches, create_loader, to_float
from mfm.data.manifest import Images
from mfm.distributed import Process, gather_objects, process_group
from mfm.draws import Floats, Ints
from mfm.errors import UserError, exits_on_user_error
from mfm.models import create_backbone, load_weights
from mfm.pixels import normalise
from mfm.result_columns import COLUMNS


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One entry per image, in manifest order."""

    labels: Ints
    predictions: Ints
    probabilities: Floats  # of the label, by softmax
    ranks: Ints  # classes scored above the label: 0 is a top-1 hit
    losses: Floats  # cross-entropy

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * float((self.ranks == 0).mean())

    @property
    def top5(self) -> float:
        """Share of images whose label is among the five best classes, in percent."""
        return 100 * float((self.ranks < 5).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(self.losses.mean())


def predict(
    model: nn.Module,
    images: Images,
    run: config.EvaluateRun,
    *,
    process: Process,
    workers: int,
) -> Predictions:
    """Evaluate; each rank takes every world-th image and all get the whole result.

    A last, smaller batch is filled up with copies of its first image, which are dropped again:
    with one shape for all batches, an image's result doesn't depend on its neighbours' number.
    """
    size = run.evaluation.batch
    mine = np.arange(process.rank, len(images), process.world)
    chunks = [mine[start : start + size] for start in range(0, len(mine), size)]
    filled = [np.pad(chunk, (0, size - len(chunk)), mode="edge") for chunk in chunks]
    loader = create_loader(
        run.loader,
        EvalBatches(
            images,
            resize=run.evaluation.resize,
            crop=run.evaluation.crop,
            interpolation=run.evaluation.interpolation,
        ),
        workers=workers,
        device=process.device,
    )
    model.to(process.device).to(memory_format=torch.channels_last).eval()
    number_format = precision.resolve(run.evaluation.precision, process.device)
    parts: list[dict[str, np.ndarray]] = []
    with torch.inference_mode():
        batches = loader.read(lambda: ((0, chunk) for chunk in filled))
        for chunk, on_host in zip(chunks, batches, strict=True):
            batch = on_host.to(process.device)
            pixels = normalise(to_float(batch.images), mean=run.mean, std=run.std)
            with precision.autocast(number_format, process.device):
                logits = model(pixels)
            logits = logits.double()
            if not logits.isfinite().all():
                raise UserError("the model's outputs are not finite numbers: its weights are bad")
            of_label = logits.gather(1, batch.labels[:, None])
            # Equal scores rank in the order of the classes, as argmax breaks ties.
            before = torch.arange(logits.shape[1], device=logits.device) < batch.labels[:, None]
            above = (logits > of_label) | ((logits == of_label) & before)
            result = {
                "labels": batch.labels,
                "predictions": logits.argmax(dim=1),
                "probabilities": logits.softmax(dim=1).gather(1, batch.labels[:, None])[:, 0],
                "ranks": above.sum(dim=1),
                "losses": F.cross_entropy(logits, batch.labels, reduction="none"),
            }
            parts.append({k: v[: len(chunk)].cpu().numpy() for k, v in result.items()})
    empty: dict[str, np.ndarray] = {}
    local = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]} if parts else empty
    gathered = gather_objects((mine, local), process)
    whole: dict[str, np.ndarray] = {}
    for positions, values in gathered:
        for key, part in values.items():
            whole.setdefault(key, np.zeros(len(images), part.dtype))[positions] = part
    return Predictions(**whole)


def save_predictions(
    found: Predictions, images: Images, path: Path, metadata: dict[str, str]
) -> None:
    """One row per image: path, label, prediction (class names), probability of the label.

    The file says what made it in its schema's metadata, below 'mfm'.
    """
    names = np.array(images.classes, dtype=object)
    table = pa.table(
        {
            "path": images.paths,
            "label": pa.array(names[found.labels]),
            "prediction": pa.array(names[found.predictions]),
            "probability": pa.array(found.probabilities),
            "correct": pa.array(found.ranks == 0),
        }
    )
    table = table.replace_schema_metadata({"mfm": json.dumps(metadata, sort_keys=True)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def result_row(
    found: Predictions, *, finetuned: Path, weights: dict[str, str], pretrain: str
) -> dict[str, object]:
    """One row of results.csv: accuracies in percent, times in seconds, of the finetuning.

    Of a converted file no training is known: no epochs, and zeros for its time and speed.
    """
    epochs: list[dict[str, str]] = []
    if weights.get("stage") != "convert":
        with open(finetuned.parent / "metrics.csv", newline="") as file:
            epochs = list(csv.DictReader(file))
    speed = median(float(epoch["images_per_second"]) for epoch in epochs) if epochs else 0.0
    return {
        "init": weights["init"],
        "pretrain": pretrain,
        "seed": int(weights["seed"]),
        "top1": round(found.top1, 4),
        "top5": round(found.top5, 4),
        "loss": round(found.loss, 6),
        "images": len(found.labels),
        "epochs": len(epochs),
        "train_images": int(weights["train_images"]),
        "images_per_second": round(speed, 1),
        "seconds": round(sum(float(epoch["seconds"]) for epoch in epochs), 2),
        "code_version": weights["code_version"],
        "config_hash": weights["config_hash"],
        "checkpoint": finetuned.as_posix(),
    }


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="resolved JSON of this stage")
    parser.add_argument("--manifest", type=Path, required=True, help="data/<name>/manifest.parquet")
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--pretrain", default="-", help="the arm's pretraining, for the result row")
    parser.add_argument("--csv", type=Path, required=True, help="the result row")
    parser.add_argument("--predictions", type=Path, required=True, help="one row per image")
    parser.add_argument("--workers", type=int, default=1, help="loader processes per rank")
    options = parser.parse_args()
    run = config.load_json(config.EvaluateRun, options.config)
    stage.begin()
    split = config.evaluated_split(run.dataset)
    images = manifest.load(options.manifest, split)
    model = create_backbone(run.model, classes=len(images.classes), image_size=run.evaluation.crop)
    metadata = load_weights(model, options.weights)
    with process_group() as process:
        found = predict(model, images, run, process=process, workers=options.workers)
    if process.is_main:
        described = stage.metadata(run, process.device, split=split)
        save_predictions(found, images, options.predictions, described)
        row = result_row(
            found, finetuned=options.weights, weights=metadata, pretrain=options.pretrain
        )
        with replacing(options.csv) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerow(row)
        print(f"top-1 {found.top1:.2f} on {len(images)} images of split '{split}'", flush=True)


if __name__ == "__main__":
    main()
