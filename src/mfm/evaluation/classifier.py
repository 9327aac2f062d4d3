"""Evaluation of a finetuned classifier: every image once, whatever the ranks and the batch size."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import Batch, EvalBatches, to_float
from mfm.data.loading.choice import create_loader
from mfm.errors import UserError
from mfm.evaluation.settings import ClassificationJob
from mfm.files.atomic import replacing
from mfm.numerics import precision
from mfm.numerics.draws import Floats, Ints, Stream, permutation
from mfm.numerics.pixels import normalise
from mfm.processes.ranks import Process, gather_objects

# What is made of images [n, 3, H, W] in [0, 1] before they are normalised, which stay as they are.
# The second are their rows in the manifest, which random draws are keyed by.
Change = Callable[[Tensor, Ints], Tensor]
# Up to so many classes, probabilities of all of them are kept in float32, and in float16 from there
# on: 100 MB for 50,000 images of 1,000 classes, before compression.
FEW_CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One entry per image, in manifest order."""

    labels: Ints
    predictions: Ints
    probabilities: Floats  # of the label, by softmax
    ranks: Ints  # classes scored above the label: 0 is a top-1 hit
    losses: Floats  # cross-entropy
    # As `ranks`, of the classes alone that the images have; None where it was not asked for.
    ranks_among: Ints | None = None
    # [images, classes], float32 or float16; None where they were not asked for
    all_probabilities: npt.NDArray[np.floating[Any]] | None = None

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


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A finetuned model and the images that it is evaluated on."""

    model: nn.Module
    images: Images
    job: ClassificationJob
    process: Process
    workers: int  # loader processes per rank

    def drawn(self, images: int | None) -> Subject:
        """The same with so many of its images, drawn by seed, alike for every model; None: all."""
        if images is None or images >= len(self.images):
            return self
        order = permutation(len(self.images), seed=0, epoch=0, stream=Stream.EVALUATED)
        return replace(self, images=self.images.take(np.sort(order[:images])))

    def predict(
        self,
        change: Change | None = None,
        *,
        among_present: bool = False,
        all_classes: bool = False,
    ) -> Predictions:
        """Predictions on the images, or on what `change` makes of them.

        `all_classes` keeps the probabilities of all of them. Each rank takes every world-th image
        and all get the whole result.
        """
        mine = self._mine()
        present = torch.tensor(np.unique(self.images.labels)) if among_present else None
        parts: list[dict[str, np.ndarray]] = []
        with torch.inference_mode():
            for chunk, batch in self._batches(mine):
                logits = self._logits(to_float(batch.images), batch, change)
                result = _of_batch(logits, batch.labels, present, all_classes=all_classes)
                parts.append({k: v[: len(chunk)].cpu().numpy() for k, v in result.items()})
        return self._gathered(mine, parts)

    def top1(self, changes: Mapping[str, Change | None]) -> dict[str, float]:
        """Accuracy in percent on what each change makes of the images, which are read once for all.

        The same as that of `predict` with each; None: the images as they are.
        """
        hits = dict.fromkeys(changes, 0)
        with torch.inference_mode():
            for chunk, batch in self._batches(self._mine()):
                images = to_float(batch.images)
                for name, change in changes.items():
                    result = _of_batch(self._logits(images, batch, change), batch.labels)
                    hits[name] += int((result["ranks"][: len(chunk)] == 0).sum())
        gathered = gather_objects(hits, self.process)
        return {
            name: 100 * (sum(each[name] for each in gathered) / len(self.images))
            for name in changes
        }

    def _mine(self) -> Ints:
        """Positions of this rank's images."""
        return np.arange(self.process.rank, len(self.images), self.process.world)

    def _batches(self, mine: Ints) -> Iterator[tuple[Ints, Batch]]:
        """The images at these positions, once the model is ready for them."""
        device = self.process.device
        self.model.to(device).to(memory_format=torch.channels_last).eval()
        precision.settle(device, deterministic=True)
        return evaluated_batches(
            self.images, self.job, positions=mine, workers=self.workers, device=device
        )

    def _logits(self, images: Tensor, batch: Batch, change: Change | None) -> Tensor:
        """The outputs for a batch, whose images in [0, 1] are changed."""
        device = self.process.device
        if change is not None:
            images = change(images, self.images.rows[batch.positions.numpy()])
        pixels = normalise(images, mean=self.job.mean, std=self.job.std)
        number_format = precision.resolve(self.job.evaluation.precision, device)
        with precision.autocast(number_format, device):
            logits: Tensor = self.model(pixels)
        return logits.to(precision.wide(device))

    def _gathered(self, mine: Ints, parts: list[dict[str, np.ndarray]]) -> Predictions:
        """This rank's parts with the others', in the images' order."""
        empty: dict[str, np.ndarray] = {}
        local = (
            {k: np.concatenate([part[k] for part in parts]) for k in parts[0]} if parts else empty
        )
        gathered = gather_objects((mine, local), self.process)
        whole: dict[str, np.ndarray] = {}
        for positions, values in gathered:
            for key, part in values.items():
                shape = (len(self.images), *part.shape[1:])
                whole.setdefault(key, np.zeros(shape, part.dtype))[positions] = part
        return Predictions(**whole)


def evaluated_batches(
    images: Images,
    job: ClassificationJob,
    *,
    positions: Ints,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Ints, Batch]]:
    """The images at `positions` as evaluation sees them: which they are, and their batch.

    A last, smaller batch is filled up with copies of its last image, to be dropped again: with one
    shape for all batches, an image's result doesn't depend on its neighbours' number.
    """
    settings = job.evaluation
    starts = range(0, len(positions), settings.batch)
    chunks = [positions[start : start + settings.batch] for start in starts]
    filled = [np.pad(chunk, (0, settings.batch - len(chunk)), mode="edge") for chunk in chunks]
    whole = EvalBatches(
        images,
        resize=settings.resize,
        crop=settings.crop,
        interpolation=settings.interpolation,
    )
    loader = create_loader(job.loader, whole, workers=workers, device=device)
    batches = loader.read(lambda: ((0, chunk) for chunk in filled))
    for chunk, batch in zip(chunks, batches, strict=True):
        yield chunk, batch.to(device)


def _of_batch(
    logits: Tensor, labels: Tensor, present: Tensor | None = None, *, all_classes: bool = False
) -> dict[str, Tensor]:
    """What `Predictions` holds of each image; raises UserError for outputs that are no numbers.

    `present`: the classes that the images have.
    """
    if not logits.isfinite().all():
        raise UserError("the model's outputs are not finite numbers: its weights are bad")
    of_label = logits.gather(1, labels[:, None])
    # Equal scores rank in the order of the classes, as argmax breaks ties.
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    above = (logits > of_label) | ((logits == of_label) & before)
    probabilities = logits.softmax(dim=1)
    found = {
        "labels": labels,
        "predictions": logits.argmax(dim=1),
        "probabilities": probabilities.gather(1, labels[:, None])[:, 0],
        "ranks": above.sum(dim=1),
        "losses": F.cross_entropy(logits, labels, reduction="none"),
    }
    if present is not None:
        found["ranks_among"] = above[:, present.to(above.device)].sum(dim=1)
    if all_classes:
        few = logits.shape[1] <= FEW_CLASSES
        found["all_probabilities"] = probabilities.to(torch.float32 if few else torch.float16)
    return found


def save_predictions(
    found: Predictions, images: Images, path: Path, metadata: dict[str, str]
) -> None:
    """One row per image: path, label, prediction (class names), probability and rank of the label,
    and the probabilities of all classes, where there are some; and the number of the image's group,
    where images have groups.

    The file says in its schema's metadata what made it, below 'mfm', and the order of the classes,
    below 'classes'.
    """
    names = np.array(images.classes, dtype=object)
    columns = {
        "path": images.paths,
        "label": pa.array(names[found.labels]),
        "prediction": pa.array(names[found.predictions]),
        "probability": pa.array(found.probabilities),
        "correct": pa.array(found.ranks == 0),
        "rank": pa.array(found.ranks.astype(np.int32)),
    }
    if images.groups is not None:
        columns["group"] = pa.array(images.groups)
    if (every := found.all_probabilities) is not None:
        flat = pa.array(np.ascontiguousarray(every).reshape(-1))
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, every.shape[1])
    said = {"mfm": json.dumps(metadata, sort_keys=True), "classes": json.dumps(images.classes)}
    table = pa.table(columns).replace_schema_metadata(said)
    with replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            use_dictionary=["label", "prediction"],
            # Bytes of equal weight together: 8% smaller than without, at 1,000 classes.
            column_encoding={"probabilities.list.element": "BYTE_STREAM_SPLIT"},
        )


def result_row(
    found: Predictions, *, finetuned: Path, weights: dict[str, str], pretraining: str
) -> dict[str, object]:
    """One row of results.csv: accuracies in percent, times in seconds, of the finetuning.

    Of a converted file no training is known: no epochs, and zeros for its time and speed.
    """
    epochs: list[dict[str, str]] = []
    if weights.get("stage") != "convert":
        with open(finetuned.parent / "metrics.csv", encoding="utf-8", newline="") as file:
            epochs = list(csv.DictReader(file))
    speed = median(float(epoch["images_per_second"]) for epoch in epochs) if epochs else 0.0
    return {
        "arm": weights["arm"],
        "pretraining": pretraining,
        "pretraining_seed": weights.get("initial_seed", "-") if pretraining != "-" else "-",
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
