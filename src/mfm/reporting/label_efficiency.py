"""`label_efficiency.md`: the arms compared at several amounts of labelled images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.objectives.mfm.settings import MfmPretraining
from mfm.reporting.markdown import interval, markdown_row
from mfm.reporting.table import collect as collect_rows
from mfm.reporting.table import version_warning
from mfm.reporting.verdict import by_arm
from mfm.statistics.over_seeds import Difference, compare, corrected, difference, estimate


def collect(experiment: Experiment) -> pd.DataFrame:
    """The result rows of every amount, with the amount's name in the column 'labels'."""
    parts = []
    for amount in experiment.label_efficiency:
        rows = collect_rows([Path(path) for path in resolve.evaluations(experiment, amount)])
        parts.append(rows.assign(labels=amount.name))
    return pd.concat(parts)


def render(experiment: Experiment, results: pd.DataFrame) -> str:
    """The whole comparison as Markdown, amounts in the order of their numbers of images."""
    order = _order(results)
    base = experiment.baseline
    header = ["labels", "labelled images", "initialisation", "top-1 (%)", "n", "95% interval"]
    header += [f"difference from {base}", "95% interval of the difference", "verdict"]
    lines = [
        f"# {experiment.model.backbone} on {experiment.dataset.name}: how many labels?",
        "",
        f"Top-1 accuracy of the last epoch on the {int(results['images'].iloc[0]):,} evaluated "
        "images, by the labelled images of the finetuning. A seed draws them alike for every arm, "
        "and more of them include the fewer. Intervals and verdicts are computed as in table.md; "
        "Holm's correction is for the arms at one amount.",
        "",
        "![top-1 by labelled images](label_efficiency.png)",
        "",
        markdown_row(header),
        markdown_row(["---"] * len(header)),
    ]
    for labels in order:
        arms = _arms(results, labels)
        found = compare(by_arm(experiment, results[results["labels"] == labels]), base)
        for name in (name for name in experiment.arms if name in arms):
            top1 = estimate(list(arms[name]["top1"]))
            compared = ["-", "-", "baseline"]
            if name != base:
                compared = _cells(found[name])
            lines.append(
                markdown_row(
                    [
                        labels,
                        _images(arms[name]),
                        name,
                        f"**{top1.mean:.2f}**",
                        str(top1.n),
                        interval(top1),
                        *compared,
                    ]
                )
            )
    for arm in mfm_arms(experiment):
        lines += ["", *_against_others(experiment, results, arm)]
    lines += ["", *_notes(experiment, results)]
    return "\n".join(lines) + "\n"


def mfm_arms(experiment: Experiment) -> list[str]:
    """The arms that start from a masked frequency pretraining."""
    return [
        name
        for name in experiment.arms
        if isinstance(
            experiment.pretrain.get(resolve.pretrain_name(experiment, name)),
            MfmPretraining,
        )
    ]


def _against_others(experiment: Experiment, results: pd.DataFrame, arm: str) -> list[str]:
    header = ["labels", f"{arm} less", "points", "95% interval", "verdict"]
    lines = [f"## {arm} against the other arms", "", markdown_row(header)]
    lines.append(markdown_row(["---"] * len(header)))
    for labels in _order(results):
        arms = by_arm(experiment, results[results["labels"] == labels])
        others = [name for name in experiment.arms if name in arms and name != arm]
        found = corrected({other: difference(arms[arm], arms[other]) for other in others})
        lines += [markdown_row([labels, other, *_cells(found[other])]) for other in others]
    return lines


def _cells(found: Difference) -> list[str]:
    return [f"{found.mean:+.2f}", interval(found, sign="+"), found.verdict]


def _notes(experiment: Experiment, results: pd.DataFrame) -> list[str]:
    notes = []
    for number, amount in enumerate(experiment.label_efficiency):
        recipe = amount.applied(experiment.finetune)
        if amount.epochs is not None or amount.batch is not None:
            notes.append(
                f"- {amount.name}: {recipe.epochs} epochs of batch {recipe.batch}, as "
                f"label_efficiency.{number} says."
            )
    notes.append(
        f"- Otherwise {experiment.finetune.epochs} epochs of batch {experiment.finetune.batch}; "
        "with fewer images these are fewer steps."
    )
    return notes + version_warning(results)


def _order(results: pd.DataFrame) -> list[str]:
    mean = results.groupby("labels")["train_images"].mean()
    return [str(labels) for labels in mean.sort_values(kind="stable").index]


def _arms(results: pd.DataFrame, labels: str) -> dict[str, pd.DataFrame]:
    part = results[results["labels"] == labels]
    return {str(name): rows for name, rows in part.groupby("init", sort=False)}


def _images(rows: pd.DataFrame) -> str:
    return f"{round(rows['train_images'].mean()):,}"


def draw(experiment: Experiment, results: pd.DataFrame, path: Path) -> None:
    """Top-1 over the number of labelled images, one curve an arm, with 95% intervals."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, (colour, marker) in style.looks(list(experiment.arms)).items():
        rows = results[results["init"] == name]
        images, means, below, above = [], [], [], []
        for _, part in sorted(rows.groupby("train_images")):
            top1 = estimate(list(part["top1"]))
            images.append(part["train_images"].iloc[0])
            means.append(top1.mean)
            below.append(0.0 if top1.low is None else top1.mean - top1.low)
            above.append(0.0 if top1.high is None else top1.high - top1.mean)
        axis.errorbar(
            images,
            means,
            yerr=[below, above],
            color=colour,
            marker=marker,
            capsize=3,
            label=name,
        )
    axis.set_xscale("log")
    axis.set_xlabel("labelled images")
    axis.set_ylabel("top-1 (%), mean over seeds, 95% interval")
    axis.set_title(f"{experiment.model.backbone} on {experiment.dataset.name}")
    axis.grid()
    axis.legend()
    style.save(figure, path)
