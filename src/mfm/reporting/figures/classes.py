"""Accuracy by class: which ones an arm helps, and what the worst ones are taken for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.experiment.resolve import pretraining_of
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting import words
from mfm.reporting.verdict import sample_of
from mfm.statistics.over_seeds import difference

_AT_EACH_END = 10  # classes; fewer where there are many arms
_WORST = 8
_SHORT = 14  # characters of a class beside its line of a matrix
Runs = Mapping[str, Mapping[int, pd.DataFrame]]  # rows of each evaluated image, by arm and seed


def recall(runs: Runs) -> pd.DataFrame:
    """Accuracy in percent of each class in each run, with the columns arm, seed, label, top1."""
    parts = []
    for name, seeds in runs.items():
        for seed, images in seeds.items():
            top1 = 100 * images.groupby("label", observed=True)["correct"].mean()
            parts.append(top1.rename("top1").reset_index().assign(arm=name, seed=seed))
    return pd.concat(parts, ignore_index=True)


def draw_classes(experiment: Experiment, runs: Runs) -> Figure:
    """Each class's difference from the baseline with its 95% interval, for every other arm."""
    base = experiment.baseline
    others = [name for name in runs if name != base]
    if not others:
        return style.nothing(f"There is no arm to compare with '{base}'.")
    table = recall(runs)
    found = {
        (name, label): difference(
            *(sample_of(experiment, arm, _of(table, arm, label)) for arm in (name, base))
        )
        for name in others
        for label in table["label"].unique()
    }
    shown = next((name for name in others if _by_unlabelled(experiment, name)), others[-1])
    labels = sorted(table["label"].unique(), key=lambda label: -found[shown, label].mean)
    end = max(3, min(_AT_EACH_END, 30 // len(others)))
    cut = len(labels) > 2 * end
    if cut:
        labels = labels[:end] + labels[-end:]
    figure = Figure(
        figsize=(7.0, 1.4 + len(labels) * (0.16 + 0.16 * len(others))), layout="constrained"
    )
    axis = figure.subplots()
    axis.axvline(0, color=style.GREY, lw=1, ls="--", zorder=1)
    looks = style.looks(list(runs))
    for number, name in enumerate(others):
        colour, marker = looks[name]
        offset = 0.6 * ((number + 0.5) / len(others) - 0.5)
        for line, label in enumerate(labels):
            each = found[name, label]
            if each.low is not None and each.high is not None:
                limits = np.clip([each.low, each.high], -100, 100)
                (drawn,) = axis.plot(limits, [line + offset] * 2, color=colour, lw=1.5)
                style.mark(drawn, arm=name)
            (drawn,) = axis.plot(
                each.mean,
                line + offset,
                marker=marker,
                ms=5,
                ls="",
                color=colour,
                label=style.label(name) if line == 0 else None,
            )
            told = f"{name} less {base}, {label}: {words.difference(each)} points"
            style.mark(drawn, arm=name, said=[told])
    style.rows(axis, [style.shown(str(label), lines=min(2, len(others))) for label in labels])
    if cut:
        axis.axhline(end - 0.5, color=style.GREY, lw=1)
    less = f"top-1 of the class less that of '{style.shown(base)}' (points), 95% interval over "
    axis.set_xlabel(style.wrapped(f"{less}seeds"), fontsize=9)
    order = f"The {end} highest and lowest classes, ordered" if cut else "Ordered"
    figure.suptitle(f"{order} by '{style.shown(shown)}'", x=0.02, ha="left", fontsize=10)
    style.legend(figure, axis)
    return figure


def _by_unlabelled(experiment: Experiment, arm: str) -> bool:
    """Whether an arm starts from a pretraining without labels: the one that is asked about."""
    name = pretraining_of(experiment, arm)
    return name is not None and not experiment.pretrain[name].labelled


def _of(table: pd.DataFrame, name: str, label: str) -> pd.DataFrame:
    return table[(table["arm"] == name) & (table["label"] == label)]


def draw_confusion(runs: Runs) -> Figure:
    """What the worst classes' images are taken for, one panel an arm, in percent of the images.

    The worst by their accuracy averaged over arms; images of all seeds together.
    """
    table = recall(runs)
    mean = table.groupby(["arm", "label"])["top1"].mean().groupby("label").mean()
    worst = [str(label) for label in mean.sort_values(kind="stable").index[:_WORST]]
    others = len(mean) > len(worst)
    columns = [*worst, "any other"] if others else worst
    across = min(len(runs), 2 if len(runs) <= 4 else 3)
    down = -(-len(runs) // across)
    side = 1.6 + 0.36 * len(columns)
    figure = Figure(figsize=(side * across, (side - 0.2) * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axis in panels[len(runs) :]:
        axis.axis("off")
    for number, (axis, (name, seeds)) in enumerate(zip(panels, runs.items(), strict=False)):
        images = pd.concat(list(seeds.values()))
        share = confusion(images, worst, others=others)
        last = number + across >= len(runs)
        _matrix(axis, share, worst, columns, title=name, left=number % across == 0, bottom=last)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("class of the image", fontsize=9)
    return figure


def confusion(images: pd.DataFrame, classes: list[str], *, others: bool) -> np.ndarray:
    """Percent of each class's images that are taken for each class, and for any other one."""
    part = images[images["label"].isin(classes)]
    prediction = part["prediction"].where(part["prediction"].isin(classes), "\0")
    share = pd.crosstab(part["label"], prediction, normalize="index") * 100
    columns = [*classes, "\0"] if others else classes
    return share.reindex(index=classes, columns=columns, fill_value=0.0).to_numpy(float)


def _matrix(
    axis: Axes,
    share: np.ndarray,
    rows: list[str],
    columns: list[str],
    *,
    title: str,
    left: bool,
    bottom: bool,
) -> None:
    drawn = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    said = [
        [
            f"{title}: {value:.1f}% of {of} taken for {taken}"
            for taken, value in zip(columns, line, strict=True)
        ]
        for of, line in zip(rows, share, strict=True)
    ]
    style.mark(drawn, said=said)
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            colour = "white" if value > 55 else "black"
            weight = "bold" if row == column else "normal"
            axis.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour,
                weight=weight,
            )  # fmt: skip
    axis.set_xticks(
        range(len(columns)), [style.shown(name, _SHORT) for name in columns] if bottom else []
    )
    axis.tick_params(axis="x", rotation=55, labelsize=8)
    for label in axis.get_xticklabels():
        label.set_horizontalalignment("right")
        label.set_rotation_mode("anchor")
    axis.set_yticks(range(len(rows)), [style.shown(name, _SHORT) for name in rows] if left else [])
    axis.tick_params(axis="both", labelsize=8, length=0)
    axis.set_title(f"{style.shown(title, max(_SHORT, 4 * len(columns)), lines=2)} (%)")
    axis.spines[:].set_visible(False)
