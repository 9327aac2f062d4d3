"""`python -m mfm.launch ... -m mfm.finetune`: one finetuning run of one arm.

Leaves in the run folder: model.safetensors (the last epoch), metrics.csv, and subset.txt (the
training images that were used, one path a line).

    python -m mfm.launch --standalone --nproc-per-node 1 -m mfm.finetune \\
        --config results/finetune/mfm/seed0/config.json \\
        --weights results/pretrain/mfm/backbone.safetensors \\
        --manifest data/fashion-mnist/manifest.parquet --folder results/finetune/mfm/seed0
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from torch import nn

from mfm import atomic, config, engine, stage
from mfm.data import manifest
from mfm.data.loader import TrainBatches, create_loader
from mfm.data.plan import Plan
from mfm.data.selection import labelled_positions
from mfm.distributed import Process, process_group
from mfm.errors import exits_on_user_error
from mfm.lifetime import only_writer
from mfm.models import (
    create_backbone,
    load_backbone,
    read_weights,
    save_weights,
)
from mfm.pretrain import crop_size
from mfm.supervision import SupervisedObjective
from mfm.weights_metadata import read_metadata


def create_model(run: config.FinetuneRun, *, classes: int, weights: str) -> tuple[nn.Module, str]:
    """The classifier with its initial weights, and a line that says what was loaded.

    The seed decides the new layers' weights, so arms with one seed share them.
    """
    torch.manual_seed(run.seed)
    model = create_backbone(run.model, classes=classes)
    if weights == "scratch":
        return model, "from scratch"
    report = load_backbone(model, read_weights(weights), source=weights)
    return model, f"initialised from {weights}: {report}"


def finetune(
    run: config.FinetuneRun,
    *,
    weights: str,
    manifest_path: Path,
    operation: engine.Operation,
    process: Process,
) -> None:
    """Train and leave the run's final files. `weights` is a file, a torchvision name or 'scratch'.

    Raises UserError as `mfm.engine.train` does, and for weights of another model.
    """
    training = run.training
    labelled = manifest.load(manifest_path, "train")
    images = labelled.take(
        labelled_positions(
            labelled.labels,
            labelled.classes,
            training.images_per_class,
            fraction=training.fraction,
            seed=run.seed,
        )
    )
    model, loaded = create_model(run, classes=len(images.classes), weights=weights)
    if process.is_main:
        print(loaded, flush=True)
    rows = engine.train(
        model=model,
        objective=SupervisedObjective(training, classes=len(images.classes), seed=run.seed),
        images=images,
        size=crop_size(run),
        loader=create_loader(
            run.loader,
            TrainBatches(
                images,
                crop=training.crop,
                size=crop_size(run),
                seed=run.seed,
                randaugment=training.randaugment,
            ),
            workers=operation.workers,
            device=process.device,
        ),
        plan=Plan(
            images=len(images),
            batch=training.batch,
            micro_batch=training.micro_batch,
            seed=run.seed,
            rank=process.rank,
            world=process.world,
            pairs=bool(training.mixup or training.cutmix),
        ),
        training=training,
        identity=stage.identity(
            run,
            seed=run.seed,
            manifest=manifest.digest(manifest_path),
            weights=_weights_digest(weights),
        ),
        operation=operation,
        process=process,
    )
    if process.is_main:

        def write(last_checkpoint: Path) -> None:
            engine.write_metrics(rows, operation.run / "metrics.csv")
            atomic.write_text(
                operation.run / "subset.txt", "".join(f"{path}\n" for path in images.paths)
            )
            save_weights(
                model,
                operation.run / "model.safetensors",
                stage.metadata(
                    run,
                    init=run.init,
                    seed=str(run.seed),
                    classes=str(len(images.classes)),
                    train_images=str(len(images)),
                    initialised=loaded,
                    initial_loader=_initial_loader(weights),
                ),
            )

        engine.finish(operation, write)


def _initial_loader(weights: str) -> str:
    """The loader that initial weights were pretrained with, where they say so, or '-'."""
    if Path(weights).suffix != ".safetensors":
        return "-"
    return (read_metadata(Path(weights).expanduser()) or {}).get("loader", "-")


def _weights_digest(weights: str) -> str:
    if not config.is_path(weights):
        return weights
    with open(Path(weights).expanduser(), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    stage.add_arguments(parser)
    parser.add_argument(
        "--weights", required=True, help="file, torchvision weight name, or 'scratch'"
    )
    options = parser.parse_args()
    run = config.load_json(config.FinetuneRun, options.config)
    stop = stage.begin_training()
    operation = stage.operation(options, stop)
    with (
        process_group(timeout_minutes=operation.timeout_minutes) as process,
        only_writer(options.folder, process),
    ):
        finetune(
            run,
            weights=options.weights,
            manifest_path=options.manifest,
            operation=operation,
            process=process,
        )


if __name__ == "__main__":
    main()
