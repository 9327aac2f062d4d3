"""Cost of each arm, its pretraining included."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mfm.experiment.arms import FromWeights
from mfm.experiment.equal_cost import shown
from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import longer_arms, pretraining_of, used_pretrainings
from mfm.experiment.settings import Experiment
from mfm.reporting.document import Bullets, Column, Section, Table
from mfm.reporting.finished import Finished
from mfm.reporting.words import in_unit, unit_of

_ELSEWHERE = "elsewhere"  # where given weights were trained


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the runs of one arm took."""

    arm: str
    epochs_before: str  # of the pretraining
    images_before: str
    epochs: int
    images: int
    images_per_second: float
    pretraining: float | None  # seconds, mean of a run
    finetuning: float
    all_runs: float  # seconds of every pretraining and every finetuning


def section(found: Finished) -> Section:
    """The arms' epochs, images and time, and what they mean."""
    costs = [_cost(found, arm, rows) for arm, rows in found.arms.items()]
    notes = [
        "Times are those of training alone, as measured here beside whatever else ran, each the "
        "mean of a run. All runs: every pretraining and every finetuning.",
        "Images are those shown, in all epochs. images/s: median of the finetuning's epochs, all "
        "processes together.",
    ]
    for name, training in used_pretrainings(found.experiment).items():
        if training.views > 1:
            notes.append(f"'{name}' shows {training.views} views of an image, and each counts.")
    for name, other in longer_arms(found.experiment).items():
        notes.append(
            f"'{name}' starts from scratch and is trained for as long as '{other}' with its "
            "pretraining, counted by images shown and their pixels; compare the measured times."
        )
    if any(_ELSEWHERE in cost.epochs_before for cost in costs):
        notes.append("Given weights were trained elsewhere; that is not counted.")
    return Section("Cost", [Table(_columns(costs), costs), Bullets(notes)])


def _columns(costs: list[Cost]) -> list[Column[Cost]]:
    unit = unit_of(max(cost.pretraining or 0.0, cost.finetuning) for cost in costs)
    whole = unit_of(cost.all_runs for cost in costs)

    def before(cost: Cost) -> str:
        return "-" if cost.pretraining is None else in_unit(cost.pretraining, unit)

    return [
        Column("arm", lambda cost: cost.arm),
        Column("pretraining epochs", lambda cost: cost.epochs_before),
        Column("pretraining images", lambda cost: cost.images_before),
        Column("pretraining time", before, unit=unit),
        Column("finetuning epochs", lambda cost: f"{cost.epochs}"),
        Column("finetuning images", lambda cost: f"{cost.images:,}"),
        Column("finetuning time", lambda cost: in_unit(cost.finetuning, unit), unit=unit),
        Column("images/s", lambda cost: f"{cost.images_per_second:,.0f}"),
        Column("time of all runs", lambda cost: in_unit(cost.all_runs, whole), unit=whole),
    ]


def _cost(found: Finished, arm: str, rows: pd.DataFrame) -> Cost:
    experiment = found.experiment
    settings, name = experiment.arms[arm], pretraining_of(experiment, arm)
    before = ("-", "-")
    if name is not None:
        training = experiment.pretrain[name]
        split = found.summary["splits"][split_of(training, experiment.dataset)]
        images = shown(int(split["images"]), training.batch) * training.epochs * training.views
        more = _more(experiment, arm)
        before = (f"{training.epochs}{more}", f"{images:,}{more}")
    elif isinstance(settings, FromWeights):
        before = (_ELSEWHERE, _ELSEWHERE)
    batch = experiment.finetune.batch
    pretrained = found.pretrain_seconds.get(name or "", {})
    return Cost(
        arm=arm,
        epochs_before=before[0],
        images_before=before[1],
        epochs=int(rows["epochs"].max()),
        images=round(float((rows["train_images"] // batch * batch * rows["epochs"]).mean())),
        images_per_second=float(rows["images_per_second"].median()),
        pretraining=found.pretrain_seconds_of(arm),
        finetuning=float(rows["seconds"].mean()),
        all_runs=sum(pretrained.values()) + float(rows["seconds"].sum()),
    )


def times(found: Finished, arm: str, other: str | None = None) -> str:
    """Time of a pretraining and a finetuning, in that of another arm, or of the baseline."""
    share = relative(found, arm, other)
    return "-" if share is None else f"{share:.1f}{_more(found.experiment, arm)}"


def relative(found: Finished, arm: str, other: str | None = None) -> float | None:
    """The same as a number, without what was trained elsewhere; None where one has no time."""
    own, base = (_one_run(found, each) for each in (arm, other or found.experiment.baseline))
    return own / base if own is not None and base else None


def _more(experiment: Experiment, arm: str) -> str:
    """What is added for given weights, those that a pretraining went on from among them."""
    source, name = experiment.arms[arm], pretraining_of(experiment, arm)
    given = isinstance(source, FromWeights) and source.weights
    gone_on = name is not None and experiment.pretrain[name].weights
    return f" + {_ELSEWHERE}" if given or gone_on else ""


def _one_run(found: Finished, arm: str) -> float | None:
    """Seconds of a finetuning with the arm's pretraining; None where none was run."""
    if arm not in found.arms:
        return None
    return (found.pretrain_seconds_of(arm) or 0.0) + float(found.arms[arm]["seconds"].mean())
