"""Loop of a training: from the newest checkpoint, if there is one, to the last epoch."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import Batch
from mfm.data.loading.loader import Loader, on_device
from mfm.data.loading.order import Plan, Step
from mfm.errors import StoppedError, UserError
from mfm.numerics import convolution, precision
from mfm.numerics.draws import Stream, hashes
from mfm.processes.ranks import Process, barrier, gather_objects, sum_over_ranks
from mfm.settings.section import differing_keys
from mfm.training import checkpoint, optimizers, status
from mfm.training.agreement import Agreement
from mfm.training.bad_step import refusal
from mfm.training.memory import Trial
from mfm.training.metrics import EpochMetrics, peak_memory_mb, write_metrics
from mfm.training.nonfinite import StepCheck
from mfm.training.operation import Operation
from mfm.training.progress import Progress
from mfm.training.settings import Training
from mfm.training.task import Task
from mfm.training.tensorboard import Board
from mfm.training.together import together
from mfm.version import code_version

# Given the model and the number of steps done, before the first step of a run and after every step,
# ahead of its checkpoint. It must leave the model as it was.
Observer = Callable[[nn.Module, int], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that decides what a training computes."""

    task: Task
    images: Images
    size: int  # side of a training image in pixels
    loader: Loader
    plan: Plan
    training: Training
    identity: dict[str, Any]  # what the run is: a checkpoint of another identity is refused


@dataclass(kw_only=True)
class Position:
    """Where a run stands, between two steps."""

    epoch: int = 0  # from 0
    step: int = 0  # within the epoch, from 0: the next one
    rows: list[EpochMetrics] = field(default_factory=list)  # of the epochs before
    seconds: float = 0.0  # spent on the epoch so far
    losses: list[float] = field(default_factory=list)  # each rank's sum over the epoch so far
    skipped: int = 0  # updates left out by fp16's loss scaling so far
    changed: list[str] = field(default_factory=list)  # settings that changed on the way

    def facts(self) -> dict[str, str]:
        """What trained weights say of how they came here."""
        return {"continued_changed": ", ".join(self.changed)} if self.changed else {}

    def __str__(self) -> str:
        if self.step:
            return f"in epoch {self.epoch + 1} after step {self.step}"
        return f"after epoch {self.epoch}"


class Trainer:
    """One run of a training, on this rank.

    Gradients and metrics are those of one process with the same batch, whatever the number of ranks
    and micro-batches: each micro-batch's loss is a sum divided by the whole step's weight.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        operation: Operation,
        process: Process,
        observe: Observer | None = None,
    ) -> None:
        """Put the model on its device.

        Raises UserError where the number of processes is not the recipe's, and for batch norm over
        several on CPUs.
        """
        training, device, model = setup.training, process.device, setup.task.model
        self.setup, self.operation, self.process = setup, operation, process
        self.plan, self.training = setup.plan, training
        self.observe = observe
        self.number_format = precision.resolve(training.precision, device)
        precision.settle(device, deterministic=training.deterministic)
        model.to(device).to(memory_format=torch.channels_last)
        convolution.use_products(model)
        if training.sync_batchnorm and process.world > 1:
            if device.type == "cpu":
                raise UserError(
                    "sync_batchnorm is for GPUs, torch has none for CPUs: set it to false, or "
                    "ranks to 1"
                )
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        if process.world != training.ranks:
            raise UserError(
                f"{process.world} processes were started, and ranks is {training.ranks} in this "
                "run's configuration"
            )
        self.model = self.parallel = model
        self.optimizer = optimizers.create_optimizer(model, training.optimizer)
        self.scaler = precision.grad_scaler(self.number_format, device)
        self.here = Position()

    def train(self) -> list[EpochMetrics]:
        """Train the model in place; the metrics of all epochs.

        Raises UserError for a changed identity, damaged checkpoints, a full disk, numbers that are
        not finite; StoppedError, after a checkpoint, when it was asked to stop.
        """
        self.begin()
        stop = None
        while self.here.epoch < self.training.epochs and stop is None:
            stop = self._epoch()
        if self.board is not None:
            self.board.close()
        barrier(self.process)
        if self.here.epoch < self.training.epochs:
            assert stop is not None
            raise StoppedError(f"stopped by {stop.name} {self.here}; start again to continue")
        return self.here.rows

    def _epoch(self) -> signal.Signals | None:
        """The rest of the present epoch, or its part until a signal, which is returned."""
        here, plan = self.here, self.plan
        self.model.train()
        started = time.perf_counter() - here.seconds
        total = torch.zeros(
            (), dtype=precision.wide(self.process.device), device=self.process.device
        )
        if here.step:
            total += here.losses[self.process.rank]
        progress = Progress(
            shown=self.process.is_main,
            epoch=here.epoch,
            epochs=self.training.epochs,
            steps=plan.steps_per_epoch,
            batch=plan.batch,
            first=here.step,
            ranks=self.process.world,
            status=self.status,
        )
        due, stop, rate = False, None, 0.0
        steps = self.setup.loader.train(plan, here.epoch, here.step)
        for step, batches in on_device(steps, self.process.device):
            self.agreement.begin()
            loss, rate = self.step(step, batches)
            total += loss
            progress.step(loss, rate)

            here.step = step.number + 1
            done = here.epoch * plan.steps_per_epoch + here.step
            if self.observe is not None:
                self.observe(self.model, done)
            decision = self.agreement.end()
            stop = decision.stop
            every = self.operation.checkpoint_steps
            due = decision.save or stop is not None or (every is not None and done % every == 0)
            if due and here.step < plan.steps_per_epoch:
                self.check.flush()
                here.seconds = time.perf_counter() - started
                here.skipped = self.check.skipped
                self._save(total)
            if stop is not None:
                break
        progress.close()
        self.check.flush()
        if here.step == plan.steps_per_epoch:
            self._end_epoch(total, rate, started, due=due)
        return stop

    def step(self, step: Step, batches: Sequence[Batch]) -> tuple[Tensor, float]:
        """One optimizer step, of batches on the device: this rank's loss, and the learning rate."""
        plan, device = self.plan, self.process.device
        rate = optimizers.set_rates(
            self.optimizer,
            self.training,
            epoch=step.epoch,
            step=step.number,
            steps_per_epoch=plan.steps_per_epoch,
        )
        seed_step(self.setup.identity["seed"], step, rank=self.process.rank)
        total = torch.zeros((), dtype=precision.wide(device), device=device)
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            alone = last or self.parallel is self.model
            with nullcontext() if alone else self.parallel.no_sync():  # type: ignore[operator]
                with precision.autocast(self.number_format, device):
                    loss = self.setup.task.objective(self.parallel, batch, step)
                # DistributedDataParallel averages over ranks; the loss is a part of a sum.
                self.scaler.scale(loss * self.process.world).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = self.check.gradient_norm(self.model, self.training.clip)
        self.check.step(total, norm, step, batches)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return total, rate

    def begin(self) -> None:
        """Everything between the settings and the first step; `train` does it by itself."""
        process, plan, operation, setup = self.process, self.plan, self.operation, self.setup
        memory = Trial(
            model=self.model,
            task=setup.task,
            plan=plan,
            training=self.training,
            size=setup.size,
            channels=setup.images.reading.out_channels,
            number_format=self.number_format,
            process=process,
        ).check()
        self._resume()
        barrier(process)  # no rank may prune a checkpoint that another still reads
        self.parallel = together(
            self.model,
            setup.task,
            plan=plan,
            size=setup.size,
            channels=setup.images.reading.out_channels,
            process=process,
        )
        self._log(
            f"{plan.images} images, batch {plan.batch} = {process.world} ranks x "
            f"{plan.accumulation} micro-batches x {plan.held}, "
            f"{optimizers.describe_rates(self.training)}, {self.number_format}, "
            f"{process.device.type}, {torch.get_num_threads()} threads a rank{memory}"
        )
        self.check = StepCheck(
            optimizer=self.optimizer,
            scaler=self.scaler,
            device=process.device,
            skipped=self.here.skipped,
            max_skipped=operation.max_skipped,
            refuse=lambda bad: refusal(
                bad,
                model=self.model,
                images=self.setup.images,
                number_format=self.number_format,
                identity=self.setup.identity,
                run=operation.run,
                process=process,
            ),
        )
        self.agreement = Agreement(
            stop=operation.stop,
            checkpoint_minutes=operation.checkpoint_minutes,
            timeout_minutes=operation.timeout_minutes,
            process=process,
        )
        rolling = operation.run / checkpoint.FOLDER
        self.status = status.Status(
            rolling / status.NAME if process.is_main else None,
            epochs=self.training.epochs,
            steps=plan.steps_per_epoch,
            batch=plan.batch,
        )
        shown = operation.tensorboard and process.is_main
        self.board = Board(operation.run, self.here.rows) if shown else None

    def _resume(self) -> None:
        """Go to where the newest rolling checkpoint stands, if there is one."""
        state = checkpoint.load_rolling(self.operation.run)
        if state is None:
            if self.observe is not None:
                self.observe(self.model, 0)
            return
        self.here = self._position(state)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self._log(f"resumed {self.here} (of {self.training.epochs})")

    def _position(self, state: checkpoint.State) -> Position:
        """Where a checkpoint stands; refused where it is of another configuration."""
        run = self.operation.run
        keys = differing_keys(state["identity"], self.setup.identity)
        if keys and not self.operation.resume_changed:
            raise UserError(
                f"{run} holds an interrupted run of another configuration (different: "
                f"{', '.join(keys)}); change it back to continue that run, remove "
                f"{run / checkpoint.FOLDER} to start anew, or set MFM_RESUME_CHANGED=1 to "
                "continue it changed"
            )
        saved = state["position"]
        here = Position(**{**saved, "rows": [EpochMetrics(**row) for row in saved["rows"]]})
        if here.epoch + bool(here.step) > self.training.epochs:
            raise UserError(
                f"{run} stands {here}, and its configuration asks for {self.training.epochs} "
                f"epochs: set more, or remove {run / checkpoint.FOLDER} to start anew"
            )
        if here.step and "config.training.batch" in keys:
            raise UserError(
                f"{run} was interrupted at step {here.step} of an epoch, whose images another "
                "batch would take in other steps: change config.training.batch back"
            )
        if state["code_version"] != code_version():
            self._log(
                f"warning: the checkpoint was written by version {state['code_version']}, this is "
                f"{code_version()}"
            )
        if keys:
            self._log(f"continuing with another configuration: {', '.join(keys)}")
            here.changed = sorted({*here.changed, *keys})
        if len(here.losses) != self.process.world:  # told to continue on another number of ranks
            here.losses = [sum(here.losses)] + [0.0] * (self.process.world - 1)
        return here

    def _end_epoch(self, total: Tensor, rate: float, started: float, *, due: bool) -> None:
        """Note the epoch that is done, and checkpoint if it is time to."""
        here, plan, operation = self.here, self.plan, self.operation
        loss = sum_over_ranks(total, self.process).item() / plan.steps_per_epoch
        seconds = time.perf_counter() - started
        row = EpochMetrics(
            epoch=here.epoch + 1,
            loss=loss,
            lr=rate,
            images_per_second=plan.steps_per_epoch * plan.batch / seconds,
            seconds=seconds,
            peak_memory_mb=peak_memory_mb(self.process.device),
            skipped_steps=self.check.skipped,
        )
        self._log(row.describe(self.training.epochs))
        rows = [*here.rows, row]
        self.here = here = Position(
            epoch=here.epoch + 1, rows=rows, skipped=self.check.skipped, changed=here.changed
        )
        if self.process.is_main:
            # To look at while the run goes on; the final one is written from these rows.
            write_metrics(rows, operation.run / checkpoint.FOLDER / "metrics.csv")
        if self.board is not None:
            self.board.add(row)
        finished = here.epoch == self.training.epochs
        if due or finished or here.epoch % operation.checkpoint_epochs == 0:
            self._save(torch.zeros(()))

    def _save(self, total: Tensor) -> None:
        """A rolling checkpoint; `total` is this rank's loss over the epoch so far."""
        here = self.here
        here.losses = gather_objects(total.item(), self.process)
        if self.process.is_main:
            checkpoint.save_rolling(
                self.full_state(),
                self.operation.run,
                epoch=here.epoch,
                step=here.step,
                keep=self.operation.keep,
            )
        self.agreement.saved()

    def full_state(self) -> checkpoint.State:
        """Everything that a resumed run needs.

        Random numbers and the learning rate are no state: both follow from the position
        (`mfm.numerics.draws`, `mfm.training.optimizers`), on every rank.
        """
        return {
            "identity": self.setup.identity,
            "code_version": code_version(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": asdict(self.here),
        }

    def _log(self, text: str) -> None:
        if self.process.is_main:
            print(text, flush=True)


def seed_step(seed: int, step: Step, *, rank: int) -> None:
    """Key torch's own generators (drop path) by the step, so that they're no state either."""
    index = np.array([step.number * 65536 + rank], np.int64)
    word = hashes(seed=seed, epoch=step.epoch, stream=Stream.STEP, indices=index)[0, 0]
    torch.manual_seed(int(word) >> 1)
