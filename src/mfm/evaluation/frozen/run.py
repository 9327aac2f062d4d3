"""Run of one kind of frozen features: its job and the weights in, a CSV of its accuracies out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from mfm.data import manifest
from mfm.data.batches import to_float
from mfm.data.manifest import Images
from mfm.data.selection import labelled_positions
from mfm.errors import UserError
from mfm.evaluation.classifier import evaluated_batches
from mfm.evaluation.frozen.probes import logistic, nearest
from mfm.evaluation.frozen.settings import PIXELS, FrozenJob
from mfm.files.atomic import write_text
from mfm.models.backbones import create_backbone, last_map
from mfm.models.sources import origin_of
from mfm.models.weights import load_backbone, read_weights
from mfm.numerics import precision
from mfm.numerics.pixels import normalise

# Images [n, 3, H, W] in [0, 1] to their features [n, D].
Extractor = Callable[[Tensor], Tensor]
Features = npt.NDArray[np.float32]


def run(
    job: FrozenJob,
    *,
    manifest_path: Path,
    weights: Sequence[str],
    csv: Path,
    workers: int,
    device: torch.device,
) -> None:
    """Leave a row for each seed and method. `weights` are a file, a name, or 'scratch' by seed.

    Raises UserError for weights of another model, and for an unreadable image.
    """
    labelled = manifest.load(manifest_path, "train")
    evaluated = manifest.load(manifest_path, job.evaluation.split)
    positions = {
        seed: labelled_positions(
            labelled.labels,
            labelled.classes,
            job.images_per_class,
            fraction=job.fraction,
            seed=seed,
        )
        for seed in job.seeds
    }
    used = np.unique(np.concatenate(list(positions.values())))
    starts = {seed: _start(job, seed, told) for seed, told in zip(job.seeds, weights, strict=True)}
    different = list(dict.fromkeys(starts.values()))
    extractors = [_extractor(job, *start, len(labelled.classes), device) for start in different]
    of_labelled, of_evaluated = (
        features(extractors, images, job, workers=workers, device=device)
        for images in (labelled.take(used), evaluated)
    )
    rows = []
    for seed, start in starts.items():
        number = different.index(start)
        mine = of_labelled[number][np.searchsorted(used, positions[seed])].astype(np.float64)
        labels = labelled.labels[positions[seed]]
        others = of_evaluated[number].astype(np.float64)
        # With one thread: then no sum is added up in another order, and none waits for another's.
        with threadpool_limits(limits=1):
            predictions = {
                "logistic": logistic(mine, labels, others),
                "knn": nearest(mine, labels, others, neighbours=job.frozen.knn),
            }
        for method, found in predictions.items():
            top1 = round(100 * float((found == evaluated.labels).mean()), 4)
            rows.append({"features": job.features, "seed": seed, "method": method, "top1": top1})
            print(f"seed {seed}, {start[0]}: {method} {top1:.2f}", flush=True)
    write_text(csv, pd.DataFrame(rows).to_csv(index=False))


def _start(job: FrozenJob, seed: int, weights: str) -> tuple[str, int]:
    """What decides the features: the weights, and where they are drawn the seed."""
    if job.features == PIXELS:
        return PIXELS, 0
    return weights, seed if weights == "scratch" else 0


def _extractor(
    job: FrozenJob, weights: str, seed: int, classes: int, device: torch.device
) -> Extractor:
    """Pixels as they are, or the mean over the positions of a backbone's last feature map.

    Random weights are those that a finetuning of that seed begins with.
    """
    if job.features == PIXELS:
        return lambda images: images.flatten(1)
    torch.manual_seed(seed)
    model = create_backbone(job.model, classes=classes, image_size=job.evaluation.crop)
    if weights != "scratch":
        load_backbone(
            model,
            read_weights(weights),
            source=weights,
            origin=origin_of(weights),
            normalisation=(job.mean, job.std),
        )
    model.to(device).to(memory_format=torch.channels_last).eval()
    number_format = precision.resolve(job.evaluation.precision, device)
    precision.settle(device, deterministic=True)

    def extract(images: Tensor) -> Tensor:
        pixels = normalise(images, mean=job.mean, std=job.std)
        with precision.autocast(number_format, device):
            return last_map(model, pixels).float().mean(dim=(2, 3))

    return extract


def features(
    extractors: Sequence[Extractor],
    images: Images,
    job: FrozenJob,
    *,
    workers: int,
    device: torch.device,
) -> list[Features]:
    """Each extractor's features of all images, which are read once: [images, D] each."""
    parts: list[list[Features]] = [[] for _ in extractors]
    everything = np.arange(len(images))
    with torch.inference_mode():
        for chunk, batch in evaluated_batches(
            images, job, positions=everything, workers=workers, device=device
        ):
            pixels = to_float(batch.images)
            for extract, part in zip(extractors, parts, strict=True):
                part.append(extract(pixels)[: len(chunk)].cpu().numpy())
    found = [np.concatenate(part) for part in parts]
    if not all(np.isfinite(part).all() for part in found):
        raise UserError(f"features of {job.features} are not finite numbers: the weights are bad")
    return found
