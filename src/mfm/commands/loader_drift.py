"""Drift of the loaders: what a switch of `loader` changes on your own images.

Reads a sample of the linked dataset with both loaders, with equal crops and flips, and prints how
much the pixels differ (0 to 255); with --weights also the accuracy of a finetuned model under both.

    mfm loader-drift --configfile config.yaml --weights results/finetune/mfm/seed0/model.safetensors
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import create_parser, seed
from mfm.data.linking import manifest
from mfm.data.linking.manifest import NAME, Images
from mfm.data.loading.batches import Batches, EvalBatches, TrainBatches
from mfm.data.loading.drift import LOADERS, Drift, drift, sample
from mfm.data.settings import LoaderName
from mfm.errors import UserError
from mfm.evaluation.classifier import Predictions, Subject
from mfm.experiment.layout import dataset_folder
from mfm.experiment.resolve import evaluate_job
from mfm.experiment.settings import Experiment, load_yaml
from mfm.models.backbones import create_backbone
from mfm.models.weights import load_weights
from mfm.processes.ranks import Process, begin, process_group
from mfm.reporting.render_markdown import inline


def describe(title: str, found: Drift, images: Images) -> str:
    """One row of the table."""
    worst = inline(images.place(found.worst).name, in_table=True)
    return f"| {title} | {found.mean:.3f} | {found.largest} | {100 * found.share:.1f}% | {worst} |"


def describe_accuracy(found: dict[LoaderName, Predictions]) -> list[str]:
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


def kinds_of(
    experiment: Experiment, train: Images, val: Images, *, seed: int
) -> list[tuple[str, Batches, Images]]:
    """What is compared, with a title: the crops of a finetuning, and the evaluation."""
    crop, evaluation = experiment.finetune.crop, experiment.evaluate
    size = crop.size or experiment.dataset.image_size
    whole = EvalBatches(
        val,
        resize=evaluation.resize,
        crop=evaluation.crop,
        interpolation=evaluation.interpolation,
    )
    return [
        (
            f"finetuning crop, {size} px, {crop.interpolation}",
            TrainBatches(train, crop=crop, size=size, seed=seed),
            train,
        ),
        (
            f"evaluation, {evaluation.resize} to {evaluation.crop} px, {evaluation.interpolation}",
            whole,
            val,
        ),
    ]


def accuracies(
    experiment: Experiment, images: Images, weights: Path, *, process: Process, workers: int
) -> dict[LoaderName, Predictions]:
    """Predictions of a finetuned model under both loaders."""
    crop = experiment.evaluate.crop
    model = create_backbone(experiment.model, classes=len(images.classes), image_size=crop)
    load_weights(model, weights)
    job = evaluate_job(experiment)
    return {
        kind: Subject(
            model=model,
            images=images,
            job=job.model_copy(update={"loader": kind}),
            process=process,
            workers=workers,
        ).predict()
        for kind in LOADERS
    }


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("loader-drift", __doc__)
    parser.add_argument(
        "--configfile", type=Path, default=Path("config.yaml"), help="the experiment"
    )
    parser.add_argument("--manifest", type=Path, help="default: data/NAME/manifest.parquet")
    parser.add_argument("--weights", type=Path, help="a finetuned model.safetensors")
    parser.add_argument(
        "--images", type=int, default=1000, help="sample of each split; 0: all (default: 1000)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="draws the sample and the crops")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    options = parser.parse_args(words)
    if options.images < 0:
        raise UserError("--images is a number of images, or 0 for all")
    experiment = load_yaml(options.configfile)
    path = options.manifest or dataset_folder(experiment.dataset.name) / NAME
    if not path.exists():
        raise UserError(f"{path} is missing; run 'snakemake --cores all link_dataset' first")
    begin()
    train = manifest.load(path, "train")
    val = manifest.load(path, experiment.evaluate.split)
    chosen = [sample(images, options.images, seed=options.seed) for images in (train, val)]
    with process_group() as process:
        print(
            f"{LOADERS[0]} against {LOADERS[1]} on {process.device.type}: "
            f"{len(chosen[0])} training and {len(chosen[1])} evaluation images\n"
        )
        print("| pixels, 0 to 255 | mean difference | largest | values that differ | most in |")
        print("| --- | --- | --- | --- | --- |")
        kinds = kinds_of(experiment, train, val, seed=options.seed)
        for (title, batches, images), positions in zip(kinds, chosen, strict=True):
            found = drift(batches, positions, workers=options.workers, device=process.device)
            print(describe(title, found, images), flush=True)
        if options.weights is not None:
            images = val.take(chosen[1])
            both = accuracies(
                experiment, images, options.weights, process=process, workers=options.workers
            )
            print("\n" + "\n".join(describe_accuracy(both)))
