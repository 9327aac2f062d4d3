"""The training loop that pretraining and finetuning share."""

from __future__ import annotations

import csv
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mfm import checkpoint, config, optim, precision
from mfm.atomic import replacing
from mfm.data.loader import Batch, Loader
from mfm.data.manifest import Images
from mfm.data.plan import Plan, Step
from mfm.distributed import Process, barrier, sum_over_ranks
from mfm.draws import Stream, hashes
from mfm.errors import UserError
from mfm.finite import FiniteLoss
from mfm.progress import Progress
from mfm.version import code_version


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How a run is operated; nothing here changes what it computes."""

    run: Path  # folder of the run
    workers: int  # loader processes per rank
    checkpoint_epochs: int  # a rolling checkpoint every so many epochs
    keep: int = 2  # rolling checkpoints kept


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One row of a run's metrics CSV."""

    epoch: int  # from 1
    loss: float
    lr: float
    images_per_second: float  # over all ranks
    seconds: float
    peak_memory_mb: float  # largest of the ranks; resident memory, or a GPU's allocated memory


class Objective(Protocol):
    """What is trained: this rank's part of a step's loss."""

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """Sum over the micro-batch's images, divided by the whole step's weight."""
        ...


def train(
    *,
    model: nn.Module,
    objective: Objective,
    images: Images,
    loader: Loader,
    plan: Plan,
    training: config.Training,
    identity: dict[str, Any],
    operation: Operation,
    process: Process,
) -> list[EpochMetrics]:
    """Train `model` in place, from the newest rolling checkpoint if there is one.

    `identity` says what the run is: a checkpoint of another identity is refused. Gradients and
    metrics are those of one process with the same batch, whatever the number of ranks and
    micro-batches: each micro-batch's loss is a sum divided by the whole step's weight.

    Raises UserError for a changed identity, damaged checkpoints, a full disk, a non-finite loss.
    """
    device = process.device
    number_format = precision.resolve(training.precision, device)
    model.to(device).to(memory_format=torch.channels_last)
    if training.sync_batchnorm and process.world > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    optimizer = optim.create_optimizer(model, training.optimizer)
    scaler = precision.grad_scaler(number_format, device)
    rows: list[EpochMetrics] = []

    state = checkpoint.load_rolling(operation.run)
    if state is not None:
        _check_identity(state["identity"], identity, operation.run)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        rows = [EpochMetrics(**row) for row in state["metrics"]]
        _log(process, f"resumed after epoch {len(rows)} of {training.epochs}")
    barrier(process)  # no rank may prune a checkpoint that another still reads

    parallel: nn.Module = model
    if process.world > 1:
        # Each rank's batch norm sees its own images; rank 0's running statistics are kept, so
        # nothing needs to be broadcast before each forward pass.
        parallel = DistributedDataParallel(
            model, forward_sync_buffers=False, gradient_as_bucket_view=True
        )
    _log(
        process,
        f"{plan.images} images, batch {plan.batch} = {process.world} ranks x {plan.accumulation} "
        f"micro-batches x {plan.batch // process.world // plan.accumulation}, "
        f"peak learning rate {optim.peak_rate(training):.3g}, {number_format}, "
        f"{device.type}, {torch.get_num_threads()} threads a rank",
    )

    finite = FiniteLoss(images=images, run=operation.run, device=device)
    for epoch in range(len(rows), training.epochs):
        model.train()
        started = time.perf_counter()
        total = torch.zeros((), dtype=torch.float64, device=device)
        progress = Progress(
            shown=process.is_main,
            epoch=epoch,
            epochs=training.epochs,
            steps=plan.steps_per_epoch,
            batch=plan.batch,
        )
        for step, batches in loader.train(plan, epoch, 0):
            rate = optim.rate(
                training, epoch=epoch, step=step.number, steps_per_epoch=plan.steps_per_epoch
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            _seed_step(identity["seed"], step, process)
            step_loss = torch.zeros((), dtype=torch.float64, device=device)
            for number, batch in enumerate(batches, start=1):
                last = number == len(batches)
                with nullcontext() if last or parallel is model else parallel.no_sync():  # type: ignore[operator]
                    with precision.autocast(number_format, device):
                        loss = objective(parallel, batch.to(device), step)
                    # DistributedDataParallel averages over ranks; the loss is a part of a sum.
                    scaler.scale(loss * process.world).backward()  # type: ignore[no-untyped-call]
                step_loss += loss.detach()
            # fp16's scaler skips steps whose gradients overflow; a loss has to be finite anyway.
            finite.step(step_loss, step)
            if training.clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            total += step_loss
            progress.step(step_loss, rate)
        progress.close()
        finite.flush()

        rows.append(_epoch_row(total, rate, epoch, plan, started, process))
        _log(process, _describe(rows[-1], training.epochs))
        if process.is_main:
            # To look at while the run goes on; the final one is written from the checkpoint's rows.
            write_metrics(rows, operation.run / checkpoint.FOLDER / "metrics.csv")
        done = epoch + 1
        if process.is_main and (done % operation.checkpoint_epochs == 0 or done == training.epochs):
            checkpoint.save_rolling(
                full_state(model, optimizer, scaler, rows, identity),
                operation.run,
                epoch=done,
                step=0,
                keep=operation.keep,
            )
    barrier(process)
    return rows


def full_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    rows: list[EpochMetrics],
    identity: dict[str, Any],
) -> checkpoint.State:
    """Everything that a resumed run needs. Random numbers are no state: see mfm.draws."""
    return {
        "identity": identity,
        "code_version": code_version(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "metrics": [asdict(row) for row in rows],
    }


def write_metrics(rows: Sequence[EpochMetrics], path: Path) -> None:
    """Write the per-epoch CSV atomically."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochMetrics)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def finish(operation: Operation, write: Callable[[Path], None]) -> None:
    """Let `write` leave the final files, given the last checkpoint; then drop the rolling ones."""
    write(checkpoint.rolling(operation.run)[0])
    checkpoint.remove_rolling(operation.run)


def _check_identity(saved: dict[str, Any], identity: dict[str, Any], run: Path) -> None:
    keys = config.differing_keys(saved, identity)
    if keys:
        raise UserError(
            f"{run} holds an interrupted run of another configuration (different: "
            f"{', '.join(keys)}); change it back to continue that run, or remove {run / 'rolling'} "
            "to start anew"
        )


def _seed_step(seed: int, step: Step, process: Process) -> None:
    """Key torch's own generators (drop path) by the step, so that they're no state either."""
    index = np.array([step.number * 65536 + process.rank], np.int64)
    word = hashes(seed=seed, epoch=step.epoch, stream=Stream.STEP, indices=index)[0, 0]
    torch.manual_seed(int(word) >> 1)


def _epoch_row(
    total: Tensor, rate: float, epoch: int, plan: Plan, started: float, process: Process
) -> EpochMetrics:
    loss = sum_over_ranks(total, process).item() / plan.steps_per_epoch
    seconds = time.perf_counter() - started
    return EpochMetrics(
        epoch=epoch + 1,
        loss=loss,
        lr=rate,
        images_per_second=plan.steps_per_epoch * plan.batch / seconds,
        seconds=seconds,
        peak_memory_mb=_peak_memory_mb(process.device),
    )


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _describe(row: EpochMetrics, epochs: int) -> str:
    left = (epochs - row.epoch) * row.seconds
    return (
        f"epoch {row.epoch}/{epochs}  loss {row.loss:.5f}  lr {row.lr:.3g}  "
        f"{row.images_per_second:.0f} images/s  {row.seconds:.1f} s  "
        f"{row.peak_memory_mb:.0f} MB  {left:.0f} s left"
    )


def _log(process: Process, text: str) -> None:
    if process.is_main:
        print(text, flush=True)
