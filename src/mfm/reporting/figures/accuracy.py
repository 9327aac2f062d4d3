"""Accuracy by arm, and the arms' differences from the baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting.verdict import by_seed
from mfm.statistics.over_seeds import difference, estimate
from mfm.statistics.units import Sample


def draw_accuracy(experiment: Experiment, results: pd.DataFrame) -> Figure:
    """Every seed as a dot, the mean and its 95% t interval."""
    arms = [name for name in experiment.arms if (results["arm"] == name).any()]
    figure = Figure(figsize=(7.0, 1.1 + 0.55 * len(arms)), layout="constrained")
    axis = figure.subplots()
    for line, name in enumerate(arms):
        colour, marker = style.looks(arms)[name]
        values = results[results["arm"] == name]["top1"].to_numpy(float)
        found = estimate(Sample(values=dict(enumerate(values))))
        if found.low is not None and found.high is not None:
            axis.plot([found.low, found.high], [line, line], color=colour, lw=2, zorder=2)
        spread = 0.22 + np.zeros(len(values))
        axis.scatter(values, line + spread, s=22, color=colour, alpha=0.55, lw=0, zorder=3)
        axis.plot(found.mean, line, marker=marker, ms=8, color=colour, mec="white", zorder=4)
        axis.annotate(
            f"{found.mean:.2f}",
            (found.mean, line),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    style.rows(axis, arms)
    axis.set_xlabel(
        "top-1 accuracy (%): small dots are seeds, the marker is their mean, the line its 95% "
        "interval",
        fontsize=9,
    )
    return figure


def draw_difference(experiment: Experiment, results: pd.DataFrame) -> Figure:
    """Each other arm less the baseline: the mean, its 95% interval, and, paired, the seeds."""
    base = experiment.baseline
    drawn = [name for name in experiment.arms if (results["arm"] == name).any()]
    others = [name for name in drawn if name != base]
    if not others:
        return style.nothing(f"The only arm is the baseline, '{base}'.")
    baseline = by_seed(results[results["arm"] == base])
    figure = Figure(figsize=(7.0, 1.1 + 0.55 * len(others)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=style.GREY, lw=1, ls="--", zorder=1)
    words = []
    for line, name in enumerate(others):
        colour, marker = style.looks(drawn)[name]
        values = by_seed(results[results["arm"] == name])
        found = difference(Sample(values=values), Sample(values=baseline))
        text = f"{found.mean:+.2f}"
        if found.low is not None and found.high is not None:
            axis.plot([found.low, found.high], [line, line], color=colour, lw=2, zorder=2)
            text += f" ({found.low:+.2f} to {found.high:+.2f})"
        if found.method == "paired":
            pairs = [values[seed] - baseline[seed] for seed in sorted(set(values) & set(baseline))]
            axis.scatter(pairs, [line + 0.22] * len(pairs), s=22, color=colour, alpha=0.55, lw=0)
        axis.plot(found.mean, line, marker=marker, ms=8, color=colour, mec="white", zorder=4)
        words.append(f"{name}\n{text}")
    style.rows(axis, words)
    axis.set_xlabel(
        f"top-1 less that of '{base}' (points): mean and 95% interval; small dots are seeds",
        fontsize=9,
    )
    return figure
