"""The training loop that pretraining and finetuning share."""

from __future__ import annotations

import csv
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mfm import checkpoint, config, convolution, optim, precision, status
from mfm.atomic import replacing
from mfm.bad_step import refusal
from mfm.control import Control
from mfm.data.loader import Batch, Loader
from mfm.data.manifest import Images
from mfm.data.plan import Plan, Step
from mfm.distributed import Process, barrier, data_parallel, gather_objects, sum_over_ranks
from mfm.draws import Stream, hashes
from mfm.errors import StoppedError, UserError
from mfm.finite import StepCheck
from mfm.lifetime import StopRequest
from mfm.progress import Progress
from mfm.tensorboard import Board
from mfm.version import code_version


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How a run is operated; nothing here changes what it computes."""

    run: Path  # folder of the run
    workers: int  # loader processes per rank
    checkpoint_epochs: int  # a rolling checkpoint every so many epochs,
    checkpoint_steps: int | None = None  # and every so many steps of an epoch,
    checkpoint_minutes: float | None = None  # and when the last one is so old
    keep: int = 2  # rolling checkpoints kept
    timeout_minutes: float = 10.0  # for a rank that waits for another one
    max_skipped: int = 20  # steps in a row that fp16's scaler may skip
    resume_changed: bool = False  # continue a checkpoint of another configuration
    tensorboard: bool = False  # also leave TensorBoard's event files
    stop: StopRequest = field(default_factory=StopRequest)


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One row of a run's metrics CSV."""

    epoch: int  # from 1
    loss: float
    lr: float
    images_per_second: float  # over all ranks
    seconds: float
    peak_memory_mb: float  # of rank 0: resident memory, or a GPU's allocated memory
    skipped_steps: int = 0  # updates that fp16's loss scaling has left out so far


@dataclass(kw_only=True)
class Position:
    """Where a run stands, between two steps."""

    epoch: int = 0  # from 0
    step: int = 0  # within the epoch, from 0: the next one
    rows: list[EpochMetrics] = field(default_factory=list)  # of the epochs before
    seconds: float = 0.0  # spent on the epoch so far
    losses: list[float] = field(default_factory=list)  # each rank's sum over the epoch so far
    skipped: int = 0  # updates left out by fp16's loss scaling so far


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
    size: int,
    loader: Loader,
    plan: Plan,
    training: config.Training,
    identity: dict[str, Any],
    operation: Operation,
    process: Process,
    observe: Callable[[nn.Module, int], None] | None = None,
) -> list[EpochMetrics]:
    """Train `model` in place, from the newest rolling checkpoint if there is one.

    `size` is the side of a training image in pixels. `identity` says what the run is: a checkpoint
    of another identity is refused. Gradients and metrics are those of one process with the same
    batch, whatever the number of ranks and micro-batches: each micro-batch's loss is a sum divided
    by the whole step's weight. `observe` is given the model and the number of steps done, before
    the first step of a run and after every step, ahead of its checkpoint; it must leave the model
    as it was.

    Raises UserError for a changed identity, damaged checkpoints, a full disk, numbers that are not
    finite; StoppedError, after a checkpoint, when it was asked to stop.
    """
    device = process.device
    number_format = precision.resolve(training.precision, device)
    model.to(device).to(memory_format=torch.channels_last)
    convolution.use_products(model)
    if training.sync_batchnorm and process.world > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if process.world != training.ranks:
        raise UserError(
            f"{process.world} processes were started, and ranks is {training.ranks} in this run's "
            "configuration"
        )
    optimizer = optim.create_optimizer(model, training.optimizer)
    scaler = precision.grad_scaler(number_format, device)
    here = Position()

    state = checkpoint.load_rolling(operation.run)
    if state is not None:
        here = _position(state, plan, identity, operation, process)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        _log(process, f"resumed {_after(here)} (of {training.epochs})")
    elif observe is not None:
        observe(model, 0)
    barrier(process)  # no rank may prune a checkpoint that another still reads

    parallel = data_parallel(model, process)
    if parallel is not model:
        _settle_buckets(parallel, size=size)
    _log(
        process,
        f"{plan.images} images, batch {plan.batch} = {process.world} ranks x {plan.accumulation} "
        f"micro-batches x {plan.batch // process.world // plan.accumulation}, "
        f"{optim.describe_rates(training)}, {number_format}, "
        f"{device.type}, {torch.get_num_threads()} threads a rank",
    )

    def save(position: Position, total: Tensor) -> None:
        position.losses = gather_objects(total.item(), process)
        if process.is_main:
            checkpoint.save_rolling(
                full_state(model, optimizer, scaler, position, identity),
                operation.run,
                epoch=position.epoch,
                step=position.step,
                keep=operation.keep,
            )
        control.saved()

    check = StepCheck(
        optimizer=optimizer,
        scaler=scaler,
        device=device,
        skipped=here.skipped,
        max_skipped=operation.max_skipped,
        refuse=lambda bad: refusal(
            bad,
            model=model,
            images=images,
            number_format=number_format,
            identity=identity,
            run=operation.run,
            process=process,
        ),
    )
    control = Control(
        stop=operation.stop,
        checkpoint_minutes=operation.checkpoint_minutes,
        timeout_minutes=operation.timeout_minutes,
        process=process,
    )
    live = status.Status(
        operation.run / checkpoint.FOLDER / status.NAME if process.is_main else None,
        epochs=training.epochs,
        steps=plan.steps_per_epoch,
        batch=plan.batch,
    )
    board = Board(operation.run, here.rows) if operation.tensorboard and process.is_main else None
    while here.epoch < training.epochs:
        model.train()
        started = time.perf_counter() - here.seconds
        total = torch.zeros((), dtype=torch.float64, device=device)
        if here.step:
            total += here.losses[process.rank]
        progress = Progress(
            shown=process.is_main,
            epoch=here.epoch,
            epochs=training.epochs,
            steps=plan.steps_per_epoch,
            batch=plan.batch,
            first=here.step,
            ranks=process.world,
            status=live,
        )
        due, stop = False, None
        for step, batches in loader.train(plan, here.epoch, here.step):
            control.begin()
            rate = optim.set_rates(
                optimizer,
                training,
                epoch=step.epoch,
                step=step.number,
                steps_per_epoch=plan.steps_per_epoch,
            )
            seed_step(identity["seed"], step, rank=process.rank)
            step_loss = torch.zeros((), dtype=torch.float64, device=device)
            for number, batch in enumerate(batches, start=1):
                last = number == len(batches)
                with nullcontext() if last or parallel is model else parallel.no_sync():  # type: ignore[operator]
                    with precision.autocast(number_format, device):
                        loss = objective(parallel, batch.to(device), step)
                    # DistributedDataParallel averages over ranks; the loss is a part of a sum.
                    scaler.scale(loss * process.world).backward()  # type: ignore[no-untyped-call]
                step_loss += loss.detach()
            norm = check.gradient_norm(model, training.clip)
            check.step(step_loss, norm, step, batches)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            total += step_loss
            progress.step(step_loss, rate)

            here.step = step.number + 1
            done = here.epoch * plan.steps_per_epoch + here.step
            if observe is not None:
                observe(model, done)
            decision = control.end()
            stop = decision.stop
            every = operation.checkpoint_steps
            due = decision.save or stop is not None or (every is not None and done % every == 0)
            if due and here.step < plan.steps_per_epoch:
                check.flush()
                here.seconds = time.perf_counter() - started
                here.skipped = check.skipped
                save(here, total)
            if stop is not None:
                break
        progress.close()
        check.flush()
        if here.step == plan.steps_per_epoch:
            here.rows.append(_epoch_row(total, rate, here.epoch, plan, started, check, process))
            _log(process, _describe(here.rows[-1], training.epochs))
            here = Position(epoch=here.epoch + 1, rows=here.rows, skipped=check.skipped)
            if process.is_main:
                # To look at while the run goes on; the final one is written from these rows.
                write_metrics(here.rows, operation.run / checkpoint.FOLDER / "metrics.csv")
            if board is not None:
                board.add(here.rows[-1])
            finished = here.epoch == training.epochs
            if due or finished or here.epoch % operation.checkpoint_epochs == 0:
                save(here, torch.zeros(()))
        if stop is not None and here.epoch < training.epochs:
            barrier(process)
            raise StoppedError(f"stopped by {stop.name} {_after(here)}; start again to continue")
    if board is not None:
        board.close()
    barrier(process)
    return here.rows


def _settle_buckets(parallel: nn.Module, *, size: int) -> None:
    """Let DistributedDataParallel order its gradient buckets, by a step that changes nothing.

    It does so after its first backward pass. With more than two ranks the order of a sum depends
    on the place in a bucket, so a resumed run's first step would differ by rounding from the same
    step of a run that was not interrupted.
    """
    buffers = {name: buffer.clone() for name, buffer in parallel.named_buffers()}
    first = next(parallel.parameters())
    parallel.train()
    for _ in range(2):  # the order is used from the second on
        images = torch.zeros(2, 3, size, size, device=first.device, dtype=first.dtype)
        parallel(images).sum().backward()
        parallel.zero_grad(set_to_none=True)
    for name, buffer in parallel.named_buffers():
        buffer.copy_(buffers[name])


def full_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
    identity: dict[str, Any],
) -> checkpoint.State:
    """Everything that a resumed run needs.

    Random numbers and the learning rate are no state: both follow from the position (mfm.draws,
    mfm.optim), on every rank.
    """
    return {
        "identity": identity,
        "code_version": code_version(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "position": asdict(position),
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


def _position(
    state: checkpoint.State,
    plan: Plan,
    identity: dict[str, Any],
    operation: Operation,
    process: Process,
) -> Position:
    """Where a checkpoint stands; refused where it is of another configuration."""
    keys = config.differing_keys(state["identity"], identity)
    if keys and not operation.resume_changed:
        raise UserError(
            f"{operation.run} holds an interrupted run of another configuration (different: "
            f"{', '.join(keys)}); change it back to continue that run, remove "
            f"{operation.run / checkpoint.FOLDER} to start anew, or set MFM_RESUME_CHANGED=1 to "
            "continue it changed"
        )
    saved = state["position"]
    here = Position(**{**saved, "rows": [EpochMetrics(**row) for row in saved["rows"]]})
    if here.step and "config.training.batch" in keys:
        raise UserError(
            f"{operation.run} was interrupted at step {here.step} of an epoch, whose images "
            "another batch would take in other steps: change config.training.batch back"
        )
    if state["code_version"] != code_version():
        _log(
            process,
            f"warning: the checkpoint was written by version {state['code_version']}, this is "
            f"{code_version()}",
        )
    if keys:
        _log(process, f"continuing with another configuration: {', '.join(keys)}")
    if len(here.losses) != process.world:  # told to continue on another number of ranks
        here.losses = [sum(here.losses)] + [0.0] * (process.world - 1)
    return here


def _after(here: Position) -> str:
    """'after epoch 3', or 'in epoch 4 after step 17'."""
    return (
        f"in epoch {here.epoch + 1} after step {here.step}"
        if here.step
        else (f"after epoch {here.epoch}")
    )


def seed_step(seed: int, step: Step, *, rank: int) -> None:
    """Key torch's own generators (drop path) by the step, so that they're no state either."""
    index = np.array([step.number * 65536 + rank], np.int64)
    word = hashes(seed=seed, epoch=step.epoch, stream=Stream.STEP, indices=index)[0, 0]
    torch.manual_seed(int(word) >> 1)


def _epoch_row(
    total: Tensor,
    rate: float,
    epoch: int,
    plan: Plan,
    started: float,
    check: StepCheck,
    process: Process,
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
        skipped_steps=check.skipped,
    )


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _describe(row: EpochMetrics, epochs: int) -> str:
    left = (epochs - row.epoch) * row.seconds
    skipped = f"  {row.skipped_steps} steps skipped by fp16" if row.skipped_steps else ""
    return (
        f"epoch {row.epoch}/{epochs}  loss {row.loss:.5f}  lr {row.lr:.3g}  "
        f"{row.images_per_second:.0f} images/s  {row.seconds:.1f} s  "
        f"{row.peak_memory_mb:.0f} MB  {left:.0f} s left{skipped}"
    )


def _log(process: Process, text: str) -> None:
    if process.is_main:
        print(text, flush=True)
