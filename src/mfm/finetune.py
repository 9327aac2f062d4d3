"""`python -m mfm.launch ... -m mfm.finetune`: one finetuning run of one arm.

Leaves in the run folder: model.safetensors (the last epoch), metrics.csv, subset.txt (the training
images that were used, one path a line), and accuracy.csv where `curve_images` asks for it.

    python -m mfm.launch --standalone --nproc-per-node 1 -m mfm.finetune \\
        --config results/finetune/mfm/seed0/config.json \\
        --weights results/pretrain/mfm/backbone.safetensors \\
        --manifest data/fashion-mnist/manifest.parquet --folder results/finetune/mfm/seed0
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from mfm import accuracy_curve, atomic, config, engine, optim, stage
from mfm.data import manifest
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
    weights_checksum,
)
from mfm.supervision import SupervisedObjective
from mfm.weights_metadata import read_metadata


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a finetuning started from."""

    text: str  # a line for the log
    classifier: Literal["new", "kept"] = "new"
    checksum: str = "-"  # SHA-256 of the weight file, in hexadecimal


def create_classifier(run: config.FinetuneRun, *, classes: int) -> nn.Module:
    """The network of a finetuning, with new weights."""
    model = run.model
    if run.training.drop_path is not None:
        model = model.model_copy(update={"drop_path": run.training.drop_path})
    return create_backbone(model, classes=classes, image_size=stage.crop_size(run))


def create_model(run: config.FinetuneRun, *, classes: int, weights: str) -> tuple[nn.Module, Start]:
    """The classifier with its initial weights, and what these are.

    The seed decides the new layers' weights, so arms with one seed share them.
    """
    torch.manual_seed(run.seed)
    model = create_classifier(run, classes=classes)
    if weights == "scratch":
        return model, Start(text="from scratch")
    keep = isinstance(run.source, config.Initialisation) and run.source.classifier == "keep"
    tensors = read_weights(weights)
    checksum = weights_checksum(weights)
    report = load_backbone(model, tensors, source=weights, keep_classifier=keep)
    return model, Start(
        text=f"initialised from {weights} (SHA-256 {checksum}): {report}",
        classifier="kept" if report.kept_classifier else "new",
        checksum=checksum,
    )


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
    model, start = create_model(run, classes=len(images.classes), weights=weights)
    if process.is_main:
        print(start.text, flush=True)
    plan = stage.plan_of(
        training,
        images=len(images),
        seed=run.seed,
        process=process,
        pairs=bool(training.mixup or training.cutmix),
    )
    rows = engine.train(
        model=model,
        objective=SupervisedObjective(
            training, classes=len(images.classes), seed=run.seed, rows=images.rows
        ),
        images=images,
        size=stage.crop_size(run),
        loader=stage.train_loader(
            run,
            images,
            seed=run.seed,
            randaugment=training.randaugment,
            operation=operation,
            process=process,
        ),
        plan=plan,
        training=training,
        identity=stage.identity(
            run,
            seed=run.seed,
            manifest=manifest.digest(manifest_path),
            weights=start.checksum[:16] if start.checksum != "-" else weights,
        ),
        operation=operation,
        process=process,
        observe=_curve(run, manifest_path, operation.run, plan) if process.is_main else None,
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
                    process.device,
                    init=run.init,
                    seed=str(run.seed),
                    classes=str(len(images.classes)),
                    train_images=str(len(images)),
                    initialised=start.text,
                    classifier=start.classifier,
                    initial_sha256=start.checksum,
                    **_initial(weights),
                    **optim.absolute(training),
                ),
            )

        engine.finish(operation, write)


def _curve(
    run: config.FinetuneRun, manifest_path: Path, folder: Path, plan: Plan
) -> accuracy_curve.AccuracyCurve | None:
    """What measures accuracy on the way for the report, where it is asked for."""
    file = folder / accuracy_curve.NAME
    if run.training.curve_images == 0:
        file.unlink(missing_ok=True)  # of a finished run that was asked
        return None
    return accuracy_curve.AccuracyCurve(
        file,
        training=run.training,
        images=accuracy_curve.fixed_images(run, manifest_path=manifest_path),
        steps_per_epoch=plan.steps_per_epoch,
    )


def _initial(weights: str) -> dict[str, str]:
    """What the file of initial weights says of itself, where it does, each key after 'initial_'."""
    if Path(weights).suffix != ".safetensors":
        return {}
    described = read_metadata(Path(weights).expanduser()) or {}
    return {f"initial_{key}": value for key, value in described.items()}


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
