"""Runs as trackers are told of them, read from a results folder while the workflow runs or later.

A run is known by its key: the hash of its configuration, that of the pretraining it starts from,
and its seed. So a run that was killed and goes on is the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mfm.evaluation.results import read_results
from mfm.experiment.layout import Layout, RunFiles
from mfm.files import records
from mfm.reporting.watch import Run, find
from mfm.settings.section import text_hash
from mfm.training import status
from mfm.training.metrics import EpochMetrics, read_metrics

_ACCURACY = ("top1", "top5", "loss")  # of an evaluation's row
_EXPERIMENT = "experiment"  # name of what is about all runs together
State = Literal["running", "interrupted", "done"]


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """One run, or the experiment as a whole."""

    name: str  # a run's folder below the results
    key: str
    dataset: str
    state: State
    facts: Mapping[str, str]  # where it is, its weights
    settings: Mapping[str, str] = field(default_factory=dict)  # by dotted key
    started: float = 0.0  # seconds since 1970
    epochs: Sequence[EpochMetrics] = ()
    found: Mapping[str, float] = field(default_factory=dict)  # after the last epoch
    files: Sequence[Path] = ()  # small ones, to be kept by the tracker

    @cached_property
    def digest(self) -> str:
        """Of all that is to be told: what has the same is there already."""
        told = [
            self.name, self.key, self.state, sorted(self.facts.items()),
            sorted(self.settings.items()), [repr(row) for row in self.epochs],
            sorted(self.found.items()), [(str(file), records.sha256(file)) for file in self.files],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read(results: Path) -> list[Tracked]:
    """All runs below a results folder that have finished an epoch, and the experiment.

    Raises UserError where the folder has no runs.
    """
    layout, runs = Layout(results.as_posix()), find(results)
    found = [each for run in runs if (each := _run(layout, results, run)) is not None]
    done = all(run.state == "done" for run in runs if run.asked)
    return [*found, *_experiment(layout, found, done=done)]


def _run(layout: Layout, results: Path, run: Run) -> Tracked | None:
    folder = results / run.name
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
        values: dict[str, Any] = json.loads(text)
    except ValueError:  # it is just being written
        return None
    above, stage, of, seed = _parts(run)
    own = Layout(layout.file(above.as_posix())) if above.parts else layout
    files = own.pretraining(of, seed) if stage == "pretrain" else own.finetuning(of, seed)
    epochs = _epochs(files)
    if not epochs:
        return None
    small, accuracy = [Path(files.config), Path(files.metrics), Path(files.curve)], {}
    row = Path(own.evaluation(of, seed).row)
    if stage == "finetune" and row.exists():
        measured = read_results(row).iloc[0]
        accuracy = {f"evaluation/{name}": float(measured[name]) for name in _ACCURACY}
        small.append(row)
    starts = _pretraining(values, [own, layout])
    return Tracked(
        name=run.name,
        key="-".join([text_hash(text.strip()), *starts, f"seed{seed}"]),
        dataset=str(values["dataset"]["name"]),
        state=_state(run),
        facts={"folder": str(folder.resolve()), **_weights(files)},
        settings=dict(_flat(values)),
        started=(folder / "config.json").stat().st_mtime,
        epochs=epochs,
        found=accuracy,
        files=[file for file in small if file.exists()],
    )


def _parts(run: Run) -> tuple[Path, str, str, str]:
    """What a run's name has: folder of a variant, stage, pretraining or arm, seed."""
    path = Path(run.name)
    above = path.parents[2]
    return above, run.stage, path.parent.name, path.name.removeprefix("seed")


def _state(run: Run) -> State:
    if run.state == "done":
        return "done"
    return "running" if run.state in ("running", "silent") else "interrupted"


def _epochs(files: RunFiles) -> Sequence[EpochMetrics]:
    """Of a finished run, or what one that goes on has rewritten after each epoch."""
    rolling = Path(files.folder, status.FOLDER, Path(files.metrics).name)
    for path in (Path(files.metrics), rolling, Path(files.metrics)):  # it may end in between
        try:
            return read_metrics(path)
        except FileNotFoundError:
            continue
    return ()


def _weights(files: RunFiles) -> dict[str, str]:
    """Path and sum of what it left, which its record has."""
    path, record = Path(files.weights), Path(files.record)
    if not path.exists() or not record.exists():
        return {}
    left = json.loads(record.read_text(encoding="utf-8"))["left"]
    return {"weights": str(path.resolve()), "weights_sha256": str(left[path.name])}


def _pretraining(values: Mapping[str, Any], layouts: Sequence[Layout]) -> list[str]:
    """Hash of the pretraining that a finetuning starts from, whichever of its seeds it is."""
    source = values.get("source")
    if not isinstance(source, dict) or "pretrain" not in source:
        return []
    for layout in layouts:
        for config in sorted(
            Path(layout.pretraining(source["pretrain"], 0).config).parents[1].glob("*/config.json")
        ):
            other = json.loads(config.read_text(encoding="utf-8"))
            other["training"].pop("seeds")
            return [text_hash(json.dumps(other, sort_keys=True))]
    return []


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        inside = [_flat(each, f"{name}.{key}" if name else key) for key, each in value.items()]
        return [pair for part in inside for pair in part]
    return [(name, value if isinstance(value, str) else json.dumps(value))]


def _experiment(layout: Layout, runs: Sequence[Tracked], *, done: bool) -> list[Tracked]:
    """The table, with each arm's mean, where there is one."""
    if not Path(layout.rows).exists():
        return []
    rows = read_results(layout.rows)
    means = {f"top1/{arm}": float(top1) for arm, top1 in rows.groupby("arm")["top1"].mean().items()}
    hashes = ",".join(sorted(rows["config_hash"] + rows["seed"].astype(str)))
    folder = Path(layout.results)
    pages = [*folder.glob("*.md"), *folder.glob("*.csv"), *folder.glob("*.html")]
    figures = Path(layout.figure("")).parent.glob("*.png")
    return [
        Tracked(
            name=_EXPERIMENT,
            key=text_hash(hashes),
            dataset=runs[0].dataset,
            state="done" if done else "running",
            facts={"folder": str(folder.resolve())},
            started=Path(layout.rows).stat().st_mtime,
            found=means,
            files=sorted([*pages, *figures]),
        )
    ]
