"""Runs of a workflow while they run, from their files.

Reads the results folder and nothing else, so it works beside any number of Snakemake's jobs, on
this machine or, where the folder is shared, on others. A run is there as soon as the workflow has
written its config.json, which it does for all runs first. Those that the configuration of its last
start didn't ask for are told, and not counted.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mfm.errors import UserError
from mfm.experiment import layout
from mfm.experiment.layout import Layout
from mfm.training import status

_SILENT_SECONDS = 60.0
State = Literal["running", "silent", "interrupted", "waiting", "done"]
_STYLES: dict[State, str] = {"running": "green", "silent": "yellow", "interrupted": "red"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of the workflow."""

    asked: bool  # by the configuration of the workflow's last start
    name: str  # its folder below the results
    stage: str  # pretrain or finetune
    configured: int  # epochs
    makes_up_for: str | None  # the pretraining that this run from scratch is longer by
    epochs: int | None  # None until such a run says how many
    state: State
    report: status.Report | None  # of one that isn't done
    seconds: float | None  # of a finished one, all epochs
    loss: float | None  # of its last epoch
    images_per_second: float | None
    evaluated: bool

    @property
    def whole(self) -> float | None:
        """Seconds that the run took or, at the speed of now, is going to take."""
        if self.state == "done":
            return self.seconds
        if self.state != "running" or self.report is None:
            return None
        steps = self.report.steps * self.report.epochs
        done = self.report.steps * (self.report.epoch - 1) + self.report.step
        return self.report.seconds_left * steps / max(1, steps - done)


def find(results: Path) -> list[Run]:
    """All trainings below a results folder: pretrainings, finetunings, then those of variants.

    Raises UserError where the folder has none.
    """
    listed = Path(Layout(results.as_posix()).asked)
    asked = set(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else None
    found = [
        run for folder in layout.runs(results) if (run := _run(folder, results, asked)) is not None
    ]
    if not found:
        raise UserError(
            f"{results} has no runs: give the results folder of a workflow that was started "
            "(the configuration's `results`)"
        )
    return sorted(found, key=_order)


def _order(run: Run) -> tuple[bool, str, bool, list[int | str]]:
    """The experiment's own first, pretrainings before finetunings, and seed 2 before seed 10."""
    above = run.name.rpartition(run.stage)[0]
    parts = re.split(r"(\d+)", run.name)
    numbers = [int(part) if place % 2 else part for place, part in enumerate(parts)]
    return above != "", above, run.stage != "pretrain", numbers


def _run(folder: Path, results: Path, asked: set[str] | None) -> Run | None:
    try:
        values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:  # it is just being written
        return None
    stage, evaluated = str(values["stage"]), False
    # A variant's runs lie as an experiment's own.
    own, of, seed = folder.parents[2], folder.parent.name, folder.name.removeprefix("seed")
    if stage == "pretrain":
        files = Layout(own.as_posix()).pretraining(of, seed)
    else:
        files = Layout(own.as_posix()).finetuning(of, seed)
        evaluated = Path(Layout(own.as_posix()).evaluation(of, seed).row).exists()
    done = Path(files.weights).exists()
    report = None if done else status.read(folder / status.FOLDER / status.NAME)
    rows: list[dict[str, str]] = []
    if done and Path(files.metrics).exists():
        with open(files.metrics, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    configured = int(values["training"]["epochs"])
    other: dict[str, Any] | None = values.get("makes_up_for")
    name = folder.relative_to(results).as_posix()
    return Run(
        asked=asked is None or name in asked,
        name=name,
        stage=stage,
        configured=configured,
        makes_up_for=other["name"] if other else None,
        epochs=report.epochs if report else len(rows) or (None if other else configured),
        state="done" if done else _state(folder, report),
        report=report,
        seconds=sum(float(row["seconds"]) for row in rows) if rows else None,
        loss=float(rows[-1]["loss"]) if rows else None,
        images_per_second=float(rows[-1]["images_per_second"]) if rows else None,
        evaluated=evaluated,
    )


def _state(folder: Path, report: status.Report | None) -> State:
    if report is None:
        return "interrupted" if any((folder / status.FOLDER).glob("epoch*.pt")) else "waiting"
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


def seconds_left(runs: Sequence[Run]) -> float | None:
    """Of all trainings, if as many go on at a time as now; None before anything can be known.

    A run that waits is taken to last as long as finished ones of its stage and length, or as
    running ones are going to.
    """
    epochs: dict[str, list[float]] = {}  # seconds of one, by stage
    for run in runs:
        if run.whole is not None and run.epochs:
            epochs.setdefault(run.stage, []).append(run.whole / run.epochs)
    pretrainings = {
        Path(run.name).parts[-2]: run.whole
        for run in runs
        if run.stage == "pretrain" and run.whole is not None
    }
    running = [run.report.seconds_left for run in runs if run.state == "running" and run.report]
    work = list(running)
    for run in runs:
        if run.state in ("waiting", "interrupted", "silent"):
            each = epochs.get(run.stage)
            if each is None:
                return None
            length = (run.epochs or run.configured) * sum(each) / len(each)
            if run.epochs is None and run.makes_up_for is not None:
                more = pretrainings.get(run.makes_up_for)
                if more is None:
                    return None
                length += more  # what it shows more, it shows for about as long
            work.append(length)
    if not work:
        return 0.0
    return max(sum(work) / max(1, len(running)), max(work))


def draw(results: Path, runs: Sequence[Run]) -> Group:
    """The state of all runs, to be printed by rich."""
    earlier = [run for run in runs if not run.asked]
    runs = [run for run in runs if run.asked]
    counts = Counter(run.state for run in runs)
    finetunings = [run for run in runs if run.stage == "finetune"]
    left = seconds_left(runs)
    lines = [
        f"{results}: {counts['done']} of {len(runs)} trainings done, {counts['running']} running, "
        f"{sum(run.evaluated for run in finetunings)} of {len(finetunings)} evaluated",
        "all trainings done"
        if left == 0
        else "time left: not known yet"
        if left is None
        else f"about {duration(left)} left for the trainings, at "
        f"{max(1, counts['running'])} at a time",
        "",
    ]
    shown: list[Text | Table] = [Text(line, no_wrap=True, overflow="crop") for line in lines]
    if counts["waiting"] < len(runs):
        shown.append(_table(runs))
    if counts["waiting"]:
        waiting = [run for run in runs if run.state == "waiting"]
        shown.append(Text(f"waiting: {_listed(waiting)}", no_wrap=True, overflow="crop"))
    if earlier:
        text = f"not counted, of an earlier configuration: {_listed(earlier)}"
        shown.append(Text(text, no_wrap=True, overflow="crop"))
    return Group(*shown)


def _listed(runs: Sequence[Run]) -> str:
    numbers = Counter(run.name.rpartition("/")[0] for run in runs)
    return ", ".join(f"{what} ({n})" if n > 1 else what for what, n in numbers.items())


def _table(runs: Sequence[Run]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("run", "state", "epoch", "loss", "images/s", "left"):
        right = name in ("epoch", "loss", "images/s")
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="crop")
    for states in (("running", "silent", "interrupted"), ("done",)):
        for run in runs:
            if run.state in states:
                state = Text(run.state, style=_STYLES.get(run.state, ""))
                table.add_row(Text(run.name), state, *(Text(each) for each in _progress(run)))
    return table


def _progress(run: Run) -> tuple[str, str, str, str]:
    """Epoch, loss, speed and time of a run."""
    report = run.report
    if report is None:
        return (
            f"{run.epochs}/{run.epochs}" if run.state == "done" else "-",
            "-" if run.loss is None else f"{run.loss:.4f}",
            "-" if run.images_per_second is None else f"{run.images_per_second:.0f}",
            "-" if run.seconds is None else f"took {duration(run.seconds)}",
        )
    at = report.epoch - 1 + report.step / report.steps
    heard = f"last heard {duration(time.time() - report.time)} ago"
    return (
        f"{at:.1f}/{report.epochs}",
        f"{report.loss:.4f}",
        f"{report.images_per_second:.0f}",
        duration(report.seconds_left) if run.state == "running" else heard,
    )


def render(results: Path, runs: Sequence[Run], *, width: int) -> str:
    """The same as plain text, lines of at most `width` characters."""
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, force_terminal=False)
    console.print(draw(results, runs))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 10 min, 3 d 4 h."""
    whole = math.ceil(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (smaller, part) in itertools.pairwise(units):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
