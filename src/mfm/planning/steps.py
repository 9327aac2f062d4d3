"""Steps of a training, timed: the loop's own, with its loader, on the images that it will see.

A process of its own, started as the workflow starts a training, so that its time is one, too:

    mfm launch --standalone --nproc-per-node 1 -m mfm.planning.steps JOB MANIFEST OUT ...
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from mfm.data.linking import manifest
from mfm.data.loading.batches import Batch
from mfm.data.loading.loader import on_device
from mfm.data.loading.order import Step
from mfm.errors import exits_on_user_error
from mfm.evaluation.classifier import Subject
from mfm.evaluation.job import EvaluateJob
from mfm.experiment.jobs import FinetuneJob, PretrainJob, load_training
from mfm.files.atomic import write_text
from mfm.processes.ranks import Process, begin, process_group
from mfm.settings.section import load_json
from mfm.training import checkpoint
from mfm.training.loop import Trainer
from mfm.training.metrics import peak_memory_mb
from mfm.training.operation import Operation
from mfm.training.run import setup_of

WARM_UP = 2  # steps that are not counted


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was measured in one process."""

    load: float  # seconds that a step waits for an image
    compute: float  # seconds of everything else, an image
    checkpoint: float  # seconds to write one
    evaluate: float  # seconds of an evaluated image; 0 where none was
    weights: int  # bytes
    memory: float  # MB at most
    number_format: str
    busy: float  # seconds of all that: the rest of the process's time is its start and end


def measure(
    job: PretrainJob | FinetuneJob,
    evaluation: EvaluateJob | None,
    *,
    manifest_path: Path,
    seconds: float,
    workers: int,
    process: Process,
) -> Timed:
    """Train for so many seconds, and evaluate some images."""
    began = time.perf_counter()
    images = job.images(manifest_path)
    task = job.training.build(job.inputs(images))
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        operation = Operation(run=Path(folder), workers=workers, checkpoint_epochs=1)
        setup = setup_of(
            job, images, task, identity=job.identity(), operation=operation, process=process
        )
        trainer = Trainer(setup, operation=operation, process=process)
        trainer.begin()
        trainer.model.train()
        waited, whole, shown = _step(trainer, seconds)
        written = time.perf_counter()
        checkpoint.save_rolling(trainer.full_state(), Path(folder), epoch=1, step=0, keep=1)
        written = time.perf_counter() - written
        setup.loader.close()
        evaluated = 0.0
        if evaluation is not None:
            val = manifest.load(manifest_path, evaluation.evaluation.split)
            val = val.take(np.arange(min(len(val), 2 * evaluation.evaluation.batch)))
            subject = Subject(
                model=task.model, images=val, job=evaluation, process=process, workers=workers
            )
            evaluated = _seconds(subject) / len(val)
    weights = sum(each.numel() * each.element_size() for each in task.model.state_dict().values())
    return Timed(
        load=waited / shown,
        compute=(whole - waited) / shown,
        checkpoint=written,
        evaluate=evaluated,
        weights=weights,
        memory=peak_memory_mb(process.device),
        number_format=trainer.number_format,
        busy=time.perf_counter() - began,
    )


def _step(trainer: Trainer, seconds: float) -> tuple[float, float, int]:
    """Seconds waited for images, seconds in all, images."""
    device = trainer.process.device
    feed = on_device(_endless(trainer), device)
    for _ in range(WARM_UP):
        trainer.step(*next(feed))
    _wait(device)
    waited, shown, began = 0.0, 0, time.perf_counter()
    while shown == 0 or time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        step, batches = next(feed)
        waited += time.perf_counter() - asked
        trainer.step(step, batches)
        shown += trainer.plan.batch
    _wait(device)
    return waited, time.perf_counter() - began, shown


def _endless(trainer: Trainer) -> Iterator[tuple[Step, list[Batch]]]:
    for epoch in itertools.count():
        yield from trainer.setup.loader.train(trainer.plan, epoch, 0)


def _seconds(subject: Subject) -> float:
    subject.predict()
    began = time.perf_counter()
    subject.predict()
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@exits_on_user_error
def main() -> None:
    """Command line: the job's settings, the manifest, the file for what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--evaluation", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    evaluation = options.evaluation and load_json(EvaluateJob, options.evaluation)
    begin()
    with process_group() as process:
        found = measure(
            load_training(options.job),
            evaluation,
            manifest_path=options.manifest,
            seconds=options.seconds,
            workers=options.workers,
            process=process,
        )
        write_text(options.out, json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
