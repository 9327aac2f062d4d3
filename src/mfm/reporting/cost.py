"""What each arm cost, its pretraining included."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.equal_cost import shown
from mfm.experiment.settings import Experiment
from mfm.reporting.markdown import duration, markdown_row


def render(
    experiment: Experiment,
    arms: dict[str, pd.DataFrame],
    pretrain_seconds: dict[str, float],
    summary: dict[str, Any],
) -> list[str]:
    """A table of the arms' epochs, images and time, and what they mean, as Markdown."""
    base = experiment.baseline
    head = (
        "initialisation",
        "epochs of pretraining",
        "of finetuning",
        "images shown by pretraining",
        "by finetuning",
        "time of pretraining",
        "of a finetuning",
        "of both",
        f"times {base}",
        "all seeds",
    )
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    finetuned = {name: float(part["seconds"].mean()) for name, part in arms.items()}

    def one(name: str) -> float:
        return finetuned[name] + pretrain_seconds.get(resolve.pretrain_name(experiment, name), 0.0)

    for name in (name for name in experiment.arms if name in arms):
        part, pretrain = arms[name], resolve.pretrain_name(experiment, name)
        before = ("-", "-")
        if pretrain != "-":
            training = experiment.pretrain[pretrain]
            demand = resolve.pretrain_demand(pretrain, training, experiment.dataset)
            images = shown(demand, summary) * training.epochs
            before = (f"{training.epochs}", f"{images:,}")
        elif resolve.weights_argument(experiment, name) != "scratch":
            before = ("elsewhere", "elsewhere")
        batch = experiment.finetune.batch
        images = round(float((part["train_images"] // batch * batch * part["epochs"]).mean()))
        pretraining = pretrain_seconds.get(pretrain)
        whole = (pretraining or 0.0) + float(part["seconds"].sum())
        lines.append(
            markdown_row(
                [
                    name,
                    before[0],
                    f"{part['epochs'].max()}",
                    before[1],
                    f"{images:,}",
                    "-" if pretraining is None else duration(pretraining),
                    duration(finetuned[name]),
                    duration(one(name)),
                    f"{one(name) / one(base):.1f}" if base in arms and one(base) else "-",
                    f"{duration(whole)} ({len(part)})",
                ]
            )
        )
    notes = [
        "- Times are those of training alone, as measured here, of one run beside whatever else "
        "ran. All seeds: one pretraining and every finetuning."
    ]
    for name, other in resolve.longer_arms(experiment).items():
        notes.append(
            f"- '{name}' starts from scratch and is trained for as long as '{other}' with its "
            "pretraining, counted by images shown and their pixels; compare the measured times."
        )
    if any(part == "elsewhere" for line in lines for part in line.split(" | ")):
        notes.append("- Given weights were trained elsewhere; that is not counted.")
    return [*lines, "", *notes]
