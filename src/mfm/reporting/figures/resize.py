"""Accuracy over the evaluation's sizes."""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.figure import Figure

from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.statistics.over_seeds import estimate


def draw_resize(experiment: Experiment, results: pd.DataFrame) -> Figure:
    """One curve an arm with 95% intervals; the size that was fixed in advance is marked.

    `results` are the rows of ablation_val_resize.csv, with the short side in the column 'value'.
    """
    sizes = sorted(results["value"].astype(int).unique())
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.axvline(experiment.evaluate.resize, color=style.GREY, lw=1, ls="--", zorder=1)
    arms = [name for name in experiment.arms if (results["init"] == name).any()]
    nearest = min((b - a for a, b in itertools.pairwise(sizes)), default=1)
    for number, (name, (colour, marker)) in enumerate(style.looks(arms).items()):
        part = results[results["init"] == name]
        found = [estimate(list(part[part["value"].astype(int) == s]["top1"])) for s in sizes]
        # Side by side, so that intervals don't hide each other.
        shift = 0.12 * nearest * (number - (len(arms) - 1) / 2)
        axis.errorbar(
            [size + shift for size in sizes],
            [each.mean for each in found],
            yerr=[
                [0.0 if each.low is None else each.mean - each.low for each in found],
                [0.0 if each.high is None else each.high - each.mean for each in found],
            ],
            color=colour,
            marker=marker,
            ms=5,
            lw=1.2,
            capsize=2,
            label=name,
        )
    axis.set_xticks(sizes)
    axis.set_xlabel(
        f"short side before the centre crop of {experiment.evaluate.crop} (pixels); dashed: the "
        "table's, fixed in advance",
        fontsize=9,
    )
    axis.set_ylabel("top-1 (%), 95% interval")
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    axis.legend(ncols=len(arms), fontsize=9)
    return figure
