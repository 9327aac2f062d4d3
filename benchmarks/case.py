"""A training that steps on random images: the package's own, without loader and files."""

from __future__ import annotations

import io
import itertools
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from pydantic import TypeAdapter

from mfm.data.loading.batches import Batch
from mfm.data.loading.loader import on_device
from mfm.data.loading.order import Plan
from mfm.data.pictures.reading import Reading
from mfm.models.settings import Model
from mfm.numerics.draws import Ints
from mfm.objectives import Pretraining
from mfm.objectives.supervised.settings import Finetuning
from mfm.processes.ranks import Process
from mfm.training.loop import Setup, Trainer
from mfm.training.operation import Operation
from mfm.training.settings import Training
from mfm.training.task import Inputs

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
SEED = 0
ALONE = Process(rank=0, world=1, device=DEVICE)


def every_task() -> list[str]:
    """Names of the registered pretraining tasks."""
    return list(TypeAdapter(Pretraining).json_schema()["discriminator"]["mapping"])


def settings(task: str, **given: object) -> Training:
    """Settings of a pretraining task by its name, or of 'finetune', with what is given."""
    if task == "finetune":
        return Finetuning(**given)
    return TypeAdapter(Pretraining).validate_python({"task": task, **given})


class Case:
    """Trainer of one recipe and network, and two batches that it steps on in turn."""

    def __init__(
        self,
        training: Training,
        model: Model,
        *,
        size: int,
        classes: int,
        process: Process = ALONE,
    ) -> None:
        batch, device = training.batch, process.device
        count = 2 * batch
        self._model, self._size, self._classes = model, size, classes
        self.task = training.build(self.inputs(np.arange(count)))
        plan = Plan(
            images=count,
            batch=batch,
            micro_batch=training.micro_batch,
            seed=SEED,
            rank=process.rank,
            world=process.world,
            pairs=self.task.mixes,
            views=training.views,
        )
        self._folder = tempfile.TemporaryDirectory()
        self.trainer = Trainer(
            Setup(
                task=self.task,
                images=SimpleNamespace(reading=Reading()),  # type: ignore[arg-type]  # no step reads more
                size=size,
                loader=None,  # type: ignore[arg-type]
                plan=plan,
                training=training,
                identity={"seed": SEED},
            ),
            operation=Operation(run=Path(self._folder.name), workers=0, checkpoint_epochs=1),
            process=process,
        )
        with redirect_stdout(io.StringIO()):  # a side's answers go there
            self.trainer.begin()
        self.trainer.model.train()
        self.steps = list(plan.epoch(0))
        self.batches = [
            [_random(part, size, classes, device) for part in step.micro_batches]
            for step in self.steps
        ]
        both = itertools.cycle(zip(self.steps, self.batches, strict=True))
        self._feed = on_device(both, device)

    def inputs(self, rows: Ints) -> Inputs:
        """What the task is built for, where the images have these rows of a manifest."""
        return Inputs(
            model=self._model, size=self._size, classes=self._classes, rows=rows, seed=SEED
        )

    def step(self) -> torch.Tensor:
        """The next step; its loss, which on a GPU is not waited for."""
        return self.trainer.step(*next(self._feed))[0]


def _random(positions: np.ndarray, size: int, classes: int, device: torch.device) -> Batch:
    """Images of their positions, as a loader gives them: bytes, channels last in memory."""
    generator = torch.Generator().manual_seed(int(positions[0]))
    shape = (len(positions), size, size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.from_numpy(positions % max(classes, 1))
    batch = Batch(pixels.permute(0, 3, 1, 2), labels, torch.from_numpy(positions))
    return batch.pin_memory() if device.type == "cuda" else batch
