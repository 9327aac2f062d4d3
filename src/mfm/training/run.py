"""Run of a training: its job in, its final files out; pretrainings and finetunings alike."""

from __future__ import annotations

from pathlib import Path

from mfm.data import manifest
from mfm.data.batches import TrainBatches
from mfm.data.loading import create_loader
from mfm.data.order import Plan
from mfm.models.weights import save_weights
from mfm.processes.ranks import Process
from mfm.training import checkpoint, optimizers
from mfm.training.job import TrainingJob
from mfm.training.loop import Setup, Trainer
from mfm.training.metrics import write_metrics
from mfm.training.operation import Operation
from mfm.training.provenance import provenance


def run(
    job: TrainingJob,
    *,
    weights: str,
    manifest_path: Path,
    operation: Operation,
    process: Process,
) -> None:
    """Train and leave the run's final files. `weights` is a file, a name, or 'scratch'.

    Raises UserError as `mfm.training.loop.Trainer` does, for weights of another model, and for a
    batch larger than the dataset; StoppedError, after a checkpoint, when it was asked to stop.
    """
    job = job.with_known_length(manifest_path)
    images = job.images(manifest_path)
    task = job.training.build(job.inputs(images))
    initial = job.load(task, weights)
    if process.is_main:
        print(
            f"{job.training.describe(model=job.model, size=job.size)}; {initial.text}", flush=True
        )
    plan = Plan(
        images=len(images),
        batch=job.training.batch,
        micro_batch=job.training.micro_batch,
        seed=job.run_seed,
        rank=process.rank,
        world=process.world,
        pairs=task.mixes,
    )
    batches = TrainBatches(
        images,
        crop=job.training.crop,
        size=job.size,
        seed=job.run_seed,
        randaugment=task.randaugment,
    )
    setup = Setup(
        task=task,
        images=images,
        size=job.size,
        loader=create_loader(
            job.loader,
            batches,
            workers=operation.workers,
            device=process.device,
            timeout_minutes=operation.timeout_minutes,
        ),
        plan=plan,
        training=job.training,
        identity=job.identity(
            manifest=manifest.digest(manifest_path),
            weights=weights if initial.checksum == "-" else initial.checksum,
        ),
    )
    observe = None
    if process.is_main:
        observe = job.observer(manifest_path=manifest_path, run=operation.run, plan=plan)
    rows = Trainer(setup, operation=operation, process=process, observe=observe).train()
    if not process.is_main:
        return
    write_metrics(rows, operation.run / "metrics.csv")
    job.leave(operation.run, images=images, last_checkpoint=checkpoint.rolling(operation.run)[0])
    said = provenance(job, precision_asked=job.training.precision, device=process.device)
    said |= (
        {"epochs": str(job.training.epochs)}
        | optimizers.absolute(job.training)
        | job.facts(images, initial)
    )
    save_weights(task.backbone, operation.run / job.weights_file, said)
    checkpoint.remove_rolling(operation.run)
