"""Runs of a workflow while they run, from their files.

Reads the results folder and nothing else, so it works beside any number of Snakemake's jobs, on
this machine or, where the folder is shared, on others. A run is there as soon as the workflow has
written its config.json, which it does for all runs first.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mfm.errors import UserError
from mfm.training import status

# The same as mfm.checkpoint.FOLDER, without an import of torch.
_ROLLING = "rolling"
_SILENT_SECONDS = 60.0
_FINAL = {"pretrain": "backbone.safetensors", "finetune": "model.safetensors"}
State = Literal["running", "silent", "interrupted", "waiting", "done"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of the workflow."""

    name: str  # its folder below the results
    stage: str  # pretrain or finetune
    epochs: int
    state: State
    report: status.Report | None  # of one that isn't done
    seconds: float | None  # of a finished one, all epochs
    loss: float | None  # of its last epoch
    images_per_second: float | None


def find(results: Path) -> list[Run]:
    """All trainings below a results folder: pretrainings first, then finetunings.

    Raises UserError where the folder has none.
    """
    paths = sorted(results.glob("pretrain/*/config.json"))
    paths += sorted(results.glob("finetune/*/seed*/config.json"), key=_by_seed)
    paths += sorted(results.glob("*/*/finetune/*/seed*/config.json"), key=_by_seed)
    if not paths:
        raise UserError(
            f"{results} has no runs: give the results folder of a workflow that was started "
            "(the configuration's `results`)"
        )
    return [_run(path.parent, results) for path in paths]


def _by_seed(path: Path) -> tuple[str, int]:
    return path.parent.parent.as_posix(), int(path.parent.name.removeprefix("seed"))


def _run(folder: Path, results: Path) -> Run:
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    stage = str(values["stage"])
    done = (folder / _FINAL[stage]).exists()
    report = None if done else status.read(folder / _ROLLING / status.NAME)
    rows: list[dict[str, str]] = []
    if done and (folder / "metrics.csv").exists():
        with open(folder / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    return Run(
        name=folder.relative_to(results).as_posix(),
        stage=stage,
        epochs=int(values["training"]["epochs"]),
        state="done" if done else _state(folder, report),
        report=report,
        seconds=sum(float(row["seconds"]) for row in rows) if rows else None,
        loss=float(rows[-1]["loss"]) if rows else None,
        images_per_second=float(rows[-1]["images_per_second"]) if rows else None,
    )


def _state(folder: Path, report: status.Report | None) -> State:
    if report is None:
        return "interrupted" if any((folder / _ROLLING).glob("epoch*.pt")) else "waiting"
    if report.host == socket.gethostname() and not _alive(report.process):
        return "interrupted"
    return "silent" if time.time() - report.time > _SILENT_SECONDS else "running"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def seconds_left(runs: list[Run]) -> float | None:
    """Of all trainings, if as many go on at a time as now; None before anything can be known.

    A run that waits is taken to last as long as finished ones of its stage and length, or as
    running ones are going to.
    """
    running = [run for run in runs if run.state == "running" and run.report is not None]
    lengths: dict[str, list[float]] = {}
    for run in runs:
        if run.seconds is not None:
            lengths.setdefault(run.stage, []).append(run.seconds / run.epochs)
    for run in running:
        assert run.report is not None
        steps = run.report.steps * run.report.epochs
        done = run.report.steps * (run.report.epoch - 1) + run.report.step
        whole = run.report.seconds_left * steps / max(1, steps - done)
        lengths.setdefault(run.stage, []).append(whole / run.epochs)
    work = [run.report.seconds_left for run in running if run.report is not None]
    for run in runs:
        if run.state in ("waiting", "interrupted", "silent"):
            if run.stage not in lengths:
                return None
            each = sum(lengths[run.stage]) / len(lengths[run.stage])
            work.append(run.epochs * each)
    if not work:
        return 0.0
    return max(sum(work) / max(1, len(running)), max(work))


def render(results: Path, *, width: int) -> str:
    """The present state as plain text, lines of at most `width` characters."""
    runs = find(results)
    counts = Counter(run.state for run in runs)
    finetunings = [run.name for run in runs if run.stage == "finetune"]
    rows = [f"{'/'.join(_evaluation(name))}.csv" for name in finetunings]
    evaluated = sum((results / row).exists() for row in rows)
    left = seconds_left(runs)
    lines = [
        f"{results}: {counts['done']} of {len(runs)} trainings done, {counts['running']} running, "
        f"{evaluated} of {len(finetunings)} evaluated",
        "all trainings done"
        if left == 0
        else "time left: not known yet"
        if left is None
        else f"about {duration(left)} left for the trainings, at "
        f"{max(1, counts['running'])} at a time",
        "",
    ]
    shown = [run for run in runs if run.state in ("running", "silent", "interrupted")]
    shown += [run for run in runs if run.state == "done"]
    name = max([len(run.name) for run in shown] + [4])
    header = f"{'run':<{name}}  {'state':<11}  {'epoch':>9}  {'loss':>8}  {'images/s':>8}  left"
    lines += [header] if shown else []
    lines += [_line(run, name) for run in shown]
    if counts["waiting"]:
        waiting = Counter(
            run.name.rsplit("/", 1)[0] if run.stage == "finetune" else run.name
            for run in runs
            if run.state == "waiting"
        )
        listed = ", ".join(f"{what} ({n})" if n > 1 else what for what, n in waiting.items())
        lines.append(f"waiting: {listed}")
    return "\n".join(line[:width] for line in lines)


def _evaluation(run: str) -> list[str]:
    """A finetuning's folder with the evaluation's name: a/finetune/b to a/evaluate/b."""
    parts = run.split("/")
    parts[-3] = "evaluate"
    return parts


def _line(run: Run, name: int) -> str:
    report = run.report
    if report is None:
        loss = "-" if run.loss is None else f"{run.loss:.4f}"
        speed = "-" if run.images_per_second is None else f"{run.images_per_second:.0f}"
        epoch = f"{run.epochs}/{run.epochs}" if run.state == "done" else "-"
        time_left = "-" if run.seconds is None else f"took {duration(run.seconds)}"
    else:
        at = report.epoch - 1 + report.step / report.steps
        epoch = f"{at:.1f}/{report.epochs}"
        loss, speed = f"{report.loss:.4f}", f"{report.images_per_second:.0f}"
        age = time.time() - report.time
        time_left = duration(report.seconds_left)
        if run.state != "running":
            time_left = f"last heard {duration(age)} ago"
    return f"{run.name:<{name}}  {run.state:<11}  {epoch:>9}  {loss:>8}  {speed:>8}  {time_left}"


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 10 min, 3 d 4 h."""
    whole = math.ceil(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (smaller, part) in itertools.pairwise(units):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
