"""`python -m mfm.launch ... -m mfm.pretrain`: one pretraining run.

Leaves in the run folder: backbone.safetensors, checkpoint.pt (the full state after the last
epoch), metrics.csv.

    python -m mfm.launch --standalone --nproc-per-node 1 -m mfm.pretrain \\
        --config results/pretrain/mfm/config.json \\
        --manifest data/fashion-mnist/manifest.parquet --folder results/pretrain/mfm
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from mfm import checkpoint, config, engine, optim, stage
from mfm.check import check_size
from mfm.data import manifest
from mfm.data.loader import Batch, to_float
from mfm.data.plan import Plan, Step
from mfm.distributed import Process, process_group
from mfm.draws import Ints, Stream, uniforms
from mfm.errors import exits_on_user_error
from mfm.lifetime import only_writer
from mfm.models import (
    ReconstructionModel,
    create_backbone,
    load_backbone,
    read_weights,
    save_weights,
    stride,
    weights_checksum,
)
from mfm.objectives import MaskedFrequencyModeling
from mfm.snapshots import FOLDER, Snapshots, fixed_images
from mfm.supervision import SupervisedObjective
from mfm.workflow import pretrain_demand

_CLASSIFIER_SEEDS = 2**31  # beyond any seed of a finetuning; torch takes 32 bits of a seed


class MfmObjective:
    """One step's masked frequency modeling loss (see mfm.engine.Objective)."""

    def __init__(self, task: MaskedFrequencyModeling, *, rows: Ints, seed: int, size: int):
        self._task = task
        self._rows = rows  # [images], what random draws are keyed by
        self._seed = seed
        self._size = size

    def keep_low(self, positions: Ints, *, epoch: int) -> Tensor:
        """Which images keep their low frequencies, by (seed, epoch, image): bool [n]."""
        draws = uniforms(
            seed=self._seed,
            epoch=epoch,
            stream=Stream.KEEP_LOW,
            indices=self._rows[positions],
        )[:, 0]
        return torch.from_numpy(draws < self._task.low_pass_share)

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """This rank's share of the step's loss."""
        images = to_float(batch.images)
        keep_low = self.keep_low(batch.positions.numpy(), epoch=step.epoch)
        # The whole step's weight follows from the draws alone: no rank has to ask another.
        step_keep = self.keep_low(step.positions, epoch=step.epoch)
        sides = {"height": self._size, "width": self._size}
        weights = self._task.image_weights(keep_low, **sides)
        step_weight = self._task.image_weights(step_keep, **sides).sum()
        # keep_low stays on the host, where the objective needs it too: no wait for the GPU.
        shares = (weights / step_weight).float().to(images.device, non_blocking=True)

        prediction = model(self._task.corrupt(images, keep_low))
        return (self._task.image_losses(prediction, images, keep_low) * shares).sum()


def create_task(run: config.PretrainRun) -> MaskedFrequencyModeling:
    """The objective of an MFM pretraining, with the defaults that depend on other settings."""
    training = run.training
    assert isinstance(training, config.MfmPretraining)
    radius, share = training.radius, training.low_pass
    if radius is None:
        radius = config.default_radius(stage.crop_size(run))
    if share is None:
        share = config.default_low_pass(recipe=training.recipe, backbone=run.model.backbone)
    return MaskedFrequencyModeling(recipe=training.recipe, radius=radius, low_pass_share=share)


def create_reconstruction_model(run: config.PretrainRun) -> ReconstructionModel:
    """Backbone and head of an MFM pretraining.

    Raises UserError where the image size is not a multiple of the backbone's stride.
    """
    task = create_task(run)
    backbone = create_backbone(run.model, classes=0, image_size=stage.crop_size(run))
    check_size(pretrain_demand(run.name, run.training, run.dataset), run.model, stride(backbone))
    return ReconstructionModel(backbone, out_channels=task.out_channels)


def create_model_and_objective(
    run: config.PretrainRun, *, classes: int, rows: Ints
) -> tuple[nn.Module, engine.Objective]:
    """What a pretraining trains, with its first weights, and by what.

    `rows` are the manifest rows of the training images, in their order.
    """
    training = run.training
    torch.manual_seed(training.seed)
    if isinstance(training, config.MfmPretraining):
        return create_reconstruction_model(run), MfmObjective(
            create_task(run), rows=rows, seed=training.seed, size=stage.crop_size(run)
        )
    # Not the weights that a finetuning of this seed begins with: its new classifier would be the
    # one that these features were trained for (85% correct before the first step, on
    # Fashion-MNIST).
    torch.manual_seed(training.seed + _CLASSIFIER_SEEDS)
    model = create_backbone(run.model, classes=classes, image_size=stage.crop_size(run))
    return model, SupervisedObjective(training, classes=classes, seed=training.seed, rows=rows)


def go_on_from(model: ReconstructionModel, weights: str) -> str:
    """Load a backbone, and the head that the public codes call decoder where it fits; in words.

    Raises UserError for weights of another backbone.
    """
    tensors = read_weights(weights)
    report = load_backbone(model.backbone, tensors, source=weights)
    head = {
        name: tensors[f"decoder.{name}"]
        for name, tensor in model.head.state_dict().items()
        if f"decoder.{name}" in tensors and tensors[f"decoder.{name}"].shape == tensor.shape
    }
    fits = head.keys() == model.head.state_dict().keys()
    if fits:
        model.head.load_state_dict(head)
    return f"going on from {weights}: {report}; the head is {'loaded too' if fits else 'new'}"


def pretrain(
    run: config.PretrainRun,
    *,
    manifest_path: Path,
    operation: engine.Operation,
    process: Process,
) -> None:
    """Train and leave the run's final files.

    Raises UserError as `mfm.engine.train` does, and for a batch larger than the dataset.
    """
    training = run.training
    images = manifest.load(manifest_path, config.pretrain_split(training, run.dataset))
    model, objective = create_model_and_objective(
        run, classes=len(images.classes), rows=images.rows
    )
    mixes, randaugment = False, None
    initial = {}
    if isinstance(training, config.MfmPretraining) and training.weights is not None:
        assert isinstance(model, ReconstructionModel)
        initial["weights"] = weights_checksum(training.weights)
        said = go_on_from(model, training.weights)
        if process.is_main:
            print(said, flush=True)
    if isinstance(training, config.SupervisedPretraining):
        mixes, randaugment = bool(training.mixup or training.cutmix), training.randaugment
    elif process.is_main:
        task = create_task(run)
        print(
            f"recipe {task.recipe}, radius {task.radius:.3g}, low-pass share {task.low_pass_share}",
            flush=True,
        )

    plan = stage.plan_of(
        training, images=len(images), seed=training.seed, process=process, pairs=mixes
    )
    rows = engine.train(
        model=model,
        objective=objective,
        images=images,
        size=stage.crop_size(run),
        loader=stage.train_loader(
            run,
            images,
            seed=training.seed,
            randaugment=randaugment,
            operation=operation,
            process=process,
        ),
        plan=plan,
        training=training,
        identity=stage.identity(
            run, seed=training.seed, manifest=manifest.digest(manifest_path), **initial
        ),
        operation=operation,
        process=process,
        observe=_snapshots(run, manifest_path, operation.run, plan) if process.is_main else None,
    )
    if process.is_main:
        backbone = model.backbone if isinstance(model, ReconstructionModel) else model
        assert isinstance(backbone, nn.Module)

        def write(last_checkpoint: Path) -> None:
            engine.write_metrics(rows, operation.run / "metrics.csv")
            checkpoint.copy(last_checkpoint, operation.run / "checkpoint.pt")
            save_weights(
                backbone,
                operation.run / "backbone.safetensors",
                stage.metadata(
                    run,
                    process.device,
                    epochs=str(training.epochs),
                    seed=str(training.seed),
                    **optim.absolute(training),
                ),
            )

        engine.finish(operation, write)


def _snapshots(
    run: config.PretrainRun, manifest_path: Path, folder: Path, plan: Plan
) -> Snapshots | None:
    """What keeps predictions of the training for the report, where it is asked to draw some."""
    if not isinstance(run.training, config.MfmPretraining):
        return None
    images = fixed_images(run.training, manifest_path=manifest_path, size=stage.crop_size(run))
    if images is None:
        return None
    return Snapshots(
        folder / FOLDER,
        task=create_task(run),
        images=images,
        epochs=run.training.epochs,
        steps_per_epoch=plan.steps_per_epoch,
    )


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    stage.add_arguments(parser)
    options = parser.parse_args()
    run = config.load_json(config.PretrainRun, options.config)
    stop = stage.begin_training()
    operation = stage.operation(options, stop)
    with (
        process_group(timeout_minutes=operation.timeout_minutes) as process,
        only_writer(options.folder, process),
    ):
        pretrain(
            run,
            manifest_path=options.manifest,
            operation=operation,
            process=process,
        )


if __name__ == "__main__":
    main()
