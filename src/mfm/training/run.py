"""Run of a training: its job in, its final files out; pretrainings and finetunings alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mfm.data.linking import manifest
from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import TrainBatches
from mfm.data.loading.choice import create_loader
from mfm.data.loading.order import Plan
from mfm.files import records
from mfm.models.weights import save_weights
from mfm.processes.ranks import Process
from mfm.training import checkpoint, optimizers
from mfm.training.job import Initial, TrainingJob
from mfm.training.loop import Setup, Trainer
from mfm.training.metrics import write_metrics
from mfm.training.operation import Operation
from mfm.training.provenance import provenance
from mfm.training.task import Task


def run(
    job: TrainingJob,
    *,
    config: Path,
    weights: str,
    manifest_path: Path,
    operation: Operation,
    process: Process,
) -> None:
    """Train and leave the run's final files. `weights` is a file, a name, or 'scratch'.

    `config` is the job's own file, for the record of what the run read.

    Raises UserError as `mfm.training.loop.Trainer` does, for weights of another model, and for a
    batch larger than the dataset; StoppedError, after a checkpoint, when it was asked to stop.
    """
    images_of_splits = [manifest.check_images(manifest_path, split) for split in job.splits]
    read = [config, *images_of_splits]
    if Path(weights).expanduser().is_file():
        read.append(Path(weights).expanduser())
    job = job.with_known_length(manifest_path)
    images = job.images(manifest_path)
    task = job.training.build(job.inputs(images))
    initial = job.load(task, weights)
    if initial.file is not None:
        read.append(initial.file)
    if process.is_main:
        print(
            f"{job.training.describe(model=job.model, size=job.size)}; {initial.text}", flush=True
        )
    identity = job.identity(
        **{file.name: records.sha256(file) for file in images_of_splits},
        weights=weights if initial.checksum == "-" else initial.checksum,
    )
    setup = setup_of(job, images, task, identity=identity, operation=operation, process=process)
    observe = None
    if process.is_main:
        observe = job.observer(manifest_path=manifest_path, run=operation.run, plan=setup.plan)
    trainer = Trainer(setup, operation=operation, process=process, observe=observe)
    trainer.train()
    setup.loader.close()
    if process.is_main:
        records.write(read=read, left=_leave(job, trainer, initial))
        checkpoint.remove_rolling(operation.run)


def setup_of(
    job: TrainingJob,
    images: Images,
    task: Task,
    *,
    identity: dict[str, Any],
    operation: Operation,
    process: Process,
) -> Setup:
    """What decides what a job's training computes, and its loader.

    Raises UserError for a batch larger than the dataset.
    """
    plan = Plan(
        images=len(images),
        batch=job.training.batch,
        micro_batch=job.training.micro_batch,
        seed=job.run_seed,
        rank=process.rank,
        world=process.world,
        pairs=task.mixes,
        views=job.training.views,
    )
    batches = TrainBatches(
        images,
        crop=job.training.crop,
        size=job.size,
        seed=job.run_seed,
        randaugment=task.randaugment,
    )
    loader = create_loader(
        job.loader,
        batches,
        workers=operation.workers,
        device=process.device,
        timeout_minutes=operation.timeout_minutes,
    )
    return Setup(
        task=task,
        images=images,
        size=job.size,
        loader=loader,
        plan=plan,
        training=job.training,
        identity=identity,
    )


def _leave(job: TrainingJob, trainer: Trainer, initial: Initial) -> list[Path]:
    """Leave the final files of a run that is done."""
    run, images = trainer.operation.run, trainer.setup.images
    metrics, weights = run / "metrics.csv", run / job.weights_file
    write_metrics(trainer.here.rows, metrics)
    more = job.leave(run, images=images, last_checkpoint=checkpoint.rolling(run)[0])
    said = provenance(
        job, precision_asked=job.training.precision, device=trainer.process.device
    ) | {"epochs": str(job.training.epochs)}
    said |= optimizers.absolute(job.training) | job.facts(images, initial) | trainer.here.facts()
    said |= images.reading.facts()
    save_weights(trainer.setup.task.backbone, weights, said)
    return [weights, metrics, *more]
