"""Extraction of the features of one set of weights, once, for any amount of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from mfm.data.linking import manifest
from mfm.data.linking.manifest import Images
from mfm.data.linking.selection import per_class_positions
from mfm.data.loading.batches import to_float
from mfm.errors import UserError
from mfm.evaluation.classifier import evaluated_batches
from mfm.evaluation.frozen import features_file
from mfm.evaluation.frozen.features_file import Matrix
from mfm.evaluation.frozen.settings import PIXELS, FeaturesJob
from mfm.models.backbones import create_backbone, last_map
from mfm.models.sources import origin_of
from mfm.models.weights import load_backbone, read_weights
from mfm.numerics import precision
from mfm.numerics.draws import Ints, Stream
from mfm.numerics.pixels import normalise

# Images uint8 [n, 3, H, W] to their features [n, D].
Extractor = Callable[[Tensor], Tensor]
# Larger images are shrunk to this side before their pixels are features: 3,072 of them. Of 224 px
# they would be 150,528, and a linear classifier on them no floor that anybody knows.
PIXELS_SIDE = 32


def run(
    job: FeaturesJob,
    *,
    manifest_path: Path,
    weights: str,
    path: Path,
    workers: int,
    device: torch.device,
) -> None:
    """Leave the features file. `weights` are a file, a name, or 'scratch'.

    Raises UserError for weights of another model, and for an unreadable image.
    """
    labelled = manifest.load(manifest_path, "train")
    evaluated = manifest.load(manifest_path, job.evaluation.split)
    extract = _extractor(job, weights, len(labelled.classes), device)
    parts = (
        (split, images, positions, features)
        for split, images, chosen in (
            ("train", labelled, _labelled(job, labelled)),
            (job.evaluation.split, evaluated, np.arange(len(evaluated))),
        )
        for positions, features in _features(
            extract, images, chosen, job, workers=workers, device=device
        )
    )
    facts = {"features": job.features, "weights": weights, "seed": str(job.seed)}
    features_file.write(path, parts, facts)


def _labelled(job: FeaturesJob, images: Images) -> Ints:
    """Positions of the training images that any of the seeds may label; of small classes all."""
    if job.per_class is None:
        return np.arange(len(images))
    each = [
        per_class_positions(images.labels, job.per_class, seed=seed, stream=Stream.SUBSET)
        for seed in job.seeds
    ]
    return np.unique(np.concatenate(each))


def _extractor(job: FeaturesJob, weights: str, classes: int, device: torch.device) -> Extractor:
    """Pixels as they are, or the mean over the positions of a backbone's last feature map.

    Random weights are those that a finetuning of that seed begins with.
    """
    if job.features == PIXELS:
        return _pixels
    if job.seed is not None:
        torch.manual_seed(job.seed)
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
        pixels = normalise(to_float(images), mean=job.mean, std=job.std)
        with precision.autocast(number_format, device):
            return last_map(model, pixels).float().mean(dim=(2, 3))

    return extract


def _pixels(images: Tensor) -> Tensor:
    side = min(PIXELS_SIDE, *images.shape[2:])
    shrunk: Tensor = transforms.resize(images, [side, side], antialias=True)
    return shrunk.flatten(1)


def _features(
    extract: Extractor,
    images: Images,
    chosen: Ints,
    job: FeaturesJob,
    *,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Ints, Matrix]]:
    """The features of the images at the chosen positions, a batch at a time."""
    with torch.inference_mode():
        for chunk, batch in evaluated_batches(
            images, job, positions=chosen, workers=workers, device=device
        ):
            found: Matrix = extract(batch.images)[: len(chunk)].cpu().numpy()
            if not np.isfinite(found).all():
                raise UserError(
                    f"features of {job.features} are not finite numbers: the weights are bad"
                )
            yield chunk, found
