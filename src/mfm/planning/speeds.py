"""Speeds of a drafted experiment on this machine, from steps of its own trainings.

As many processes step side by side as the workflow would start, each with the threads, the loader
processes and the allocator that it would have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mfm.data.linking.manifest import NAME
from mfm.errors import UserError
from mfm.experiment.resolve import evaluate_job, finetune_job, pretrain_job
from mfm.planning.draft import Draft
from mfm.planning.machine import Others
from mfm.settings.section import dumps

SECONDS = 6.0  # of steps, of a stage
_LITTLE = 0.15  # of the cores, by other programs
_SIDE_BY_SIDE = 8  # processes of a measurement at most


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a training of one stage takes, as one of several side by side."""

    start: float  # seconds until the first step, and after the last
    load: float  # seconds that an image is waited for
    compute: float  # seconds of all else, an image
    checkpoint: float  # seconds
    evaluate: float  # seconds of an evaluated image
    weights: float  # bytes
    memory: float  # MB
    number_format: str = "fp32"

    @property
    def image(self) -> float:
        """Seconds of an image."""
        return self.load + self.compute

    def at(self, pixels: float) -> Speed:
        """For images of so many times the pixels: files are as large as they are."""
        return replace(self, compute=self.compute * pixels, evaluate=self.evaluate * pixels)


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Speeds of both kinds of training, at one image size."""

    size: int
    pretrain: Speed
    finetune: Speed
    others: float = 0.0  # cores that other programs kept busy meanwhile

    def beside(self, cores: int) -> str:
        """What to know of times that others were measured beside; '' where that was little."""
        if self.others < _LITTLE * cores:
            return ""
        return (
            f"other programs kept {self.others:.1f} of {cores} cores busy while steps were timed: "
            "without them it takes less"
        )

    def at(self, size: int) -> Speeds:
        """As they will be about, for images of another size."""
        pixels = (size / self.size) ** 2
        return replace(
            self, size=size, pretrain=self.pretrain.at(pixels), finetune=self.finetune.at(pixels)
        )


def pretrain_threads(draft: Draft) -> int:
    """Of a pretraining: an equal share of the cores, as the workflow gives them."""
    return max(1, draft.machine.cores // draft.pretrainings)


def measure(draft: Draft, work: Path) -> Speeds:
    """Half a minute of both kinds of training, on the images linked in `work`.

    Raises UserError with what a training said that didn't go.
    """
    experiment = draft.experiment
    evaluation = work / "evaluation.json"
    evaluation.write_text(dumps(evaluate_job(experiment)) + "\n", encoding="utf-8")
    jobs = {
        "pretrain": (pretrain_job(experiment, "mfm", 0), pretrain_threads(draft), []),
        "finetune": (
            finetune_job(experiment, "scratch", 0),
            1,
            ["--evaluation", str(evaluation)],
        ),
    }
    found, others = {}, Others()
    for stage, (job, threads, more) in jobs.items():
        config = work / f"{stage}.json"
        config.write_text(dumps(job) + "\n", encoding="utf-8")
        runs = draft.pretrainings * (1 if stage == "pretrain" else len(experiment.arms))
        beside = min(draft.machine.slots(threads), runs, _SIDE_BY_SIDE)
        found[stage] = _measured(config, more, work, threads=threads, beside=beside, gpu=draft.gpu)
    return Speeds(size=draft.size, others=others.cores, **found)


def _measured(
    job: Path, more: list[str], work: Path, *, threads: int, beside: int, gpu: bool
) -> Speed:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MFM_END_WITH_PARENT": "1"}
    workers = 1 if threads > 1 or gpu else 0  # as get_workers of the workflow
    launch = [sys.executable, "-m", "mfm", "launch", "--standalone", "--nproc-per-node", "1"]
    launch += ["-m", "mfm.planning.steps", str(job), str(work / NAME)]
    options = ["--workers", f"{workers}", "--seconds", f"{SECONDS}", *more]
    files = [work / f"measured{number}.json" for number in range(beside)]
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [*launch, str(file), *options],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for file in files
    ]
    said, starts = [], []
    for process in running:
        said.append(process.communicate()[1])
        starts.append(time.perf_counter() - began)
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            last = (text.strip().splitlines() or [f"exit {process.returncode}"])[-1]
            raise UserError(f"a training that was tried ended: {last.removeprefix('mfm: error: ')}")
    told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    names = [field.name for field in fields(Speed) if field.name not in ("start", "number_format")]
    means = {name: sum(each[name] for each in told) / beside for name in names}
    start = max(whole - each["busy"] for whole, each in zip(starts, told, strict=True))
    return Speed(start=start, number_format=told[0]["number_format"], **means)
