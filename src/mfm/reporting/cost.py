"""Cost of each arm, its pretraining included."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mfm.experiment.arms import FromWeights
from mfm.experiment.equal_cost import shown
from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import longer_arms, pretraining_of
from mfm.reporting.document import Bullets, Column, Section, Table
from mfm.reporting.finished import Finished
from mfm.reporting.words import duration

_ELSEWHERE = "elsewhere"  # where given weights were trained


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the runs of one arm took."""

    arm: str
    epochs_before: str  # of the pretraining
    images_before: str
    epochs: int
    images: int
    pretraining: float | None  # seconds
    finetuning: float  # mean of a run
    runs: int
    all_runs: float  # seconds of the pretraining and every finetuning
    times: float | None  # one run with its pretraining, in those of the baseline

    @property
    def both(self) -> float:
        """Seconds of the pretraining and one finetuning."""
        return (self.pretraining or 0.0) + self.finetuning


COLUMNS: list[Column[Cost]] = [
    Column("arm", lambda cost: cost.arm),
    Column("epochs of pretraining", lambda cost: cost.epochs_before),
    Column("of finetuning", lambda cost: f"{cost.epochs}"),
    Column("images shown by pretraining", lambda cost: cost.images_before),
    Column("by finetuning", lambda cost: f"{cost.images:,}"),
    Column(
        "time of pretraining",
        lambda cost: "-" if cost.pretraining is None else duration(cost.pretraining),
    ),
    Column("of a finetuning", lambda cost: duration(cost.finetuning)),
    Column("of both", lambda cost: duration(cost.both)),
    Column("times {baseline}", lambda cost: "-" if cost.times is None else f"{cost.times:.1f}"),
    Column("all seeds", lambda cost: f"{duration(cost.all_runs)} ({cost.runs})"),
]


def section(found: Finished) -> Section:
    """The arms' epochs, images and time, and what they mean."""
    costs = [_cost(found, arm, rows) for arm, rows in found.arms.items()]
    notes = [
        "Times are those of training alone, as measured here, of one run beside whatever else "
        "ran. All seeds: one pretraining and every finetuning."
    ]
    for name, other in longer_arms(found.experiment).items():
        notes.append(
            f"'{name}' starts from scratch and is trained for as long as '{other}' with its "
            "pretraining, counted by images shown and their pixels; compare the measured times."
        )
    if any(cost.epochs_before == _ELSEWHERE for cost in costs):
        notes.append("Given weights were trained elsewhere; that is not counted.")
    columns = [column.of(baseline=found.experiment.baseline) for column in COLUMNS]
    return Section("Cost", [Table(columns, costs), Bullets(notes)])


def _cost(found: Finished, arm: str, rows: pd.DataFrame) -> Cost:
    experiment = found.experiment
    settings, name = experiment.arms[arm], pretraining_of(experiment, arm)
    before = ("-", "-")
    if name is not None:
        training = experiment.pretrain[name]
        split = found.summary["splits"][split_of(training, experiment.dataset)]
        images = shown(int(split["images"]), training.batch) * training.epochs
        before = (f"{training.epochs}", f"{images:,}")
    elif isinstance(settings, FromWeights):
        before = (_ELSEWHERE, _ELSEWHERE)
    batch = experiment.finetune.batch
    own, base = _one_run(found, arm), _one_run(found, experiment.baseline)
    return Cost(
        arm=arm,
        epochs_before=before[0],
        images_before=before[1],
        epochs=int(rows["epochs"].max()),
        images=round(float((rows["train_images"] // batch * batch * rows["epochs"]).mean())),
        pretraining=found.pretrain_seconds_of(arm),
        finetuning=float(rows["seconds"].mean()),
        runs=len(rows),
        all_runs=(found.pretrain_seconds_of(arm) or 0.0) + float(rows["seconds"].sum()),
        times=own / base if own is not None and base else None,
    )


def _one_run(found: Finished, arm: str) -> float | None:
    """Seconds of a finetuning with the arm's pretraining; None where none was run."""
    if arm not in found.arms:
        return None
    return (found.pretrain_seconds_of(arm) or 0.0) + float(found.arms[arm]["seconds"].mean())
