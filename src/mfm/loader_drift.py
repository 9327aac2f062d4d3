"""`python -m mfm.loader_drift`: what a switch of `loader` changes on your own images.

Reads a sample of the linked dataset with both loaders, with equal crops and flips, and prints how
much the pixels differ (0 to 255); with --weights also the accuracy of a finetuned model under both.

    python -m mfm.loader_drift --configfile config.yaml \\
        --weights results/finetune/mfm/seed0/model.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from mfm import config, stage, workflow
from mfm.data import manifest
from mfm.data.loader import Batches, EvalBatches, TrainBatches, create_loader
from mfm.data.manifest import Images
from mfm.distributed import process_group
from mfm.draws import Ints, Stream, hashes
from mfm.errors import UserError, exits_on_user_error
from mfm.evaluate import Predictions, predict
from mfm.models import create_backbone, load_weights

_BATCH = 64
LOADERS: tuple[config.LoaderName, ...] = get_args(config.LoaderName)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Differences of two loaders' pixels, in levels of 0 to 255."""

    mean: float
    largest: int
    share: float  # of values that differ at all
    worst: int  # position of the image with the largest mean difference


def drift(batches: Batches, positions: Ints, *, workers: int, device: torch.device) -> Drift:
    """Compare both loaders' pixels of the images at `positions`.

    Raises UserError for an unreadable image.
    """
    chunks = [positions[start : start + _BATCH] for start in range(0, len(positions), _BATCH)]

    def read(kind: config.LoaderName) -> Iterator[Tensor]:
        loader = create_loader(kind, batches, workers=workers, device=device)
        for batch in loader.read(lambda: ((0, chunk) for chunk in chunks)):
            yield batch.images.cpu().int()

    means, largest, share = [], 0, 0.0
    for one, other in zip(*(read(kind) for kind in LOADERS), strict=True):
        differences = (one - other).abs()
        means.append(differences.double().mean(dim=(1, 2, 3)))
        largest = max(largest, int(differences.max()))
        share += float((differences > 0).double().mean()) * len(one) / len(positions)
    by_image = torch.cat(means)
    return Drift(
        mean=float(by_image.mean()),
        largest=largest,
        share=share,
        worst=int(positions[int(by_image.argmax())]),
    )


def sample(images: Images, count: int, *, seed: int) -> Ints:
    """Positions of `count` images (all where there are fewer or count is 0), by seed, in order."""
    if count == 0 or count >= len(images):
        return np.arange(len(images))
    words = hashes(seed=seed, epoch=0, stream=Stream.SUBSET, indices=np.arange(len(images)))[:, 0]
    return np.sort(np.argsort(words, kind="stable")[:count])


def describe(title: str, found: Drift, images: Images) -> str:
    """One row of the table."""
    worst = images.path(found.worst)
    return f"| {title} | {found.mean:.3f} | {found.largest} | {100 * found.share:.1f}% | {worst} |"


def describe_accuracy(found: dict[config.LoaderName, Predictions]) -> list[str]:
    """A table of top-1 by loader, and how many predictions change."""
    one, other = (found[kind] for kind in LOADERS)
    changed = int((one.predictions != other.predictions).sum())
    return [
        "| loader | top-1 (%) | mean cross-entropy |",
        "| --- | --- | --- |",
        *(f"| {kind} | {found[kind].top1:.2f} | {found[kind].loss:.4f} |" for kind in LOADERS),
        "",
        f"{changed} of {len(one.labels)} predictions change.",
    ]


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configfile", type=Path, default=Path("config.yaml"), help="the experiment"
    )
    parser.add_argument("--manifest", type=Path, help="default: data/<name>/manifest.parquet")
    parser.add_argument("--weights", type=Path, help="a finetuned model.safetensors")
    parser.add_argument(
        "--images", type=int, default=1000, help="sample of each split; 0: all (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the sample and the crops")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    options = parser.parse_args()
    if options.images < 0:
        raise UserError("--images is a number of images, or 0 for all")
    experiment = config.load_yaml(options.configfile)
    path = options.manifest or Path("data") / experiment.dataset.name / "manifest.parquet"
    if not path.exists():
        raise UserError(f"{path} is missing; run 'snakemake --cores all link_dataset' first")
    stage.begin()

    train = manifest.load(path, "train")
    val = manifest.load(path, config.evaluated_split(experiment.dataset))
    chosen = {
        "train": sample(train, options.images, seed=options.seed),
        "val": sample(val, options.images, seed=options.seed),
    }
    crop, evaluation = experiment.finetune.crop, experiment.evaluate
    size = crop.size or experiment.dataset.image_size
    kinds: list[tuple[str, Batches, Images, Ints]] = [
        (
            f"finetuning crop, {size} px, {crop.interpolation}",
            TrainBatches(train, crop=crop, size=size, seed=options.seed),
            train,
            chosen["train"],
        ),
        (
            f"evaluation, {evaluation.resize} to {evaluation.crop} px, {evaluation.interpolation}",
            EvalBatches(
                val,
                resize=evaluation.resize,
                crop=evaluation.crop,
                interpolation=evaluation.interpolation,
            ),
            val,
            chosen["val"],
        ),
    ]
    with process_group() as process:
        print(
            f"{LOADERS[0]} against {LOADERS[1]} on {process.device.type}: "
            f"{len(chosen['train'])} training and {len(chosen['val'])} evaluation images\n"
        )
        print("| pixels, 0 to 255 | mean difference | largest | values that differ | most in |")
        print("| --- | --- | --- | --- | --- |")
        for title, batches, images, positions in kinds:
            found = drift(batches, positions, workers=options.workers, device=process.device)
            print(describe(title, found, images), flush=True)
        if options.weights is None:
            return
        model = create_backbone(
            experiment.model, classes=len(val.classes), image_size=evaluation.crop
        )
        load_weights(model, options.weights)
        run = workflow.resolve(experiment, "evaluate")
        assert isinstance(run, config.EvaluateRun)
        predictions = {
            kind: predict(
                model,
                val.take(chosen["val"]),
                run.model_copy(update={"loader": kind}),
                process=process,
                workers=options.workers,
            )
            for kind in LOADERS
        }
        print("\n" + "\n".join(describe_accuracy(predictions)))


if __name__ == "__main__":
    main()
