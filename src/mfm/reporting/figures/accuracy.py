"""Accuracy by arm, and the arms' differences from the baseline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting import measure, words
from mfm.reporting.document import plain
from mfm.reporting.measure import Measure
from mfm.reporting.verdict import pairs, samples
from mfm.statistics.over_seeds import Difference, difference, estimate
from mfm.statistics.units import Sample


def draw_accuracy(experiment: Experiment, results: pd.DataFrame) -> Figure:
    """Every seed as a dot, the mean and its 95% t interval."""
    measured = samples(experiment, results)
    arms = [name for name in experiment.arms if name in measured]
    figure = Figure(figsize=(7.0, 1.1 + 0.55 * len(arms)), layout="constrained")
    axis = figure.subplots()
    for line, name in enumerate(arms):
        colour, marker = style.looks(arms)[name]
        values = list(measured[name].values.values())
        found = estimate(measured[name])
        if (limits := words.share_limits(found)) is not None:
            (drawn,) = axis.plot(limits, [line, line], color=colour, lw=2, zorder=2)
            style.mark(drawn, arm=name)
        spread = 0.22 + np.zeros(len(values))
        dots = axis.scatter(values, line + spread, s=22, color=colour, alpha=0.55, lw=0, zorder=3)
        seeds = [
            f"{name}, seed {seed}: {top1:.2f}%" for seed, top1 in measured[name].values.items()
        ]
        style.mark(dots, arm=name, said=seeds)
        (drawn,) = axis.plot(
            found.mean, line, marker=marker, ms=8, color=colour, mec="white", zorder=4
        )
        style.mark(
            drawn, arm=name, said=[f"{name}, mean top-1 in %: {plain(words.percentage(found))}"]
        )
        text = axis.annotate(
            f"{found.mean:.2f}",
            (found.mean, line),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        style.mark(text, arm=name)
    style.rows(axis, [style.shown(name, lines=2) for name in arms])
    style.percent(axis.xaxis)
    said = "top-1 accuracy (%): small dots are seeds, the marker is their mean, the line its 95% "
    axis.set_xlabel(style.wrapped(f"{said}interval"), fontsize=9)
    return figure


def draw_difference(experiment: Experiment, results: pd.DataFrame) -> Figure:
    """Each comparison of the table: the mean, its 95% interval, and, paired, the seeds."""
    its = measure.asked(experiment)
    measured = samples(experiment, results, its.name)
    compared = pairs(experiment, measured)
    if not compared:
        return style.nothing("There are no two arms to compare.")
    looks = style.looks([name for name in experiment.arms if name in measured])
    figure = Figure(figsize=(7.0, 1.1 + 0.65 * len(compared)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=style.GREY, lw=1, ls="--", zorder=1)
    names = []
    for line, (name, other) in enumerate(compared):
        found = _draw_one(axis, line, (name, other), measured=measured, look=looks[name], its=its)
        both = f"{style.shown(name)} less {style.shown(other)}"
        if len(both) > 32:
            both = f"{style.shown(name)}\nless {style.shown(other)}"
        names.append(f"{both}\n{its.difference(found)}")
    style.rows(axis, names)
    axis.set_xlabel(style.wrapped(_what(its)), fontsize=9)
    return figure


def draw_answer(experiment: Experiment, results: pd.DataFrame) -> Figure:
    """The first comparison alone, the declared one if there is one: on which side of zero it is."""
    its = measure.asked(experiment)
    measured = samples(experiment, results, its.name)
    compared = pairs(experiment, measured)
    if not compared:
        return style.nothing("There are no two arms to compare.")
    name, other = compared[0]
    look = style.looks([name for name in experiment.arms if name in measured])[name]
    figure = Figure(figsize=(5.0, 1.5), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=style.GREY, lw=1, ls="--", zorder=1)
    _draw_one(axis, 0, compared[0], measured=measured, look=look, its=its)
    style.rows(axis, [""])
    furthest = max(map(abs, axis.get_xlim()))
    axis.set_xlim(-furthest, furthest)  # zero in the middle: neither side is nearer
    left, right = (name, other) if its.metric.lower_is_better else (other, name)
    for place, side, text in (
        (0, "left", f"\N{LEFTWARDS ARROW} {style.shown(left)} better"),
        (1, "right", f"{style.shown(right)} better \N{RIGHTWARDS ARROW}"),
    ):
        axis.text(place, 1.02, text, transform=axis.transAxes, ha=side, va="bottom")
    axis.set_xlabel(style.wrapped(_what(its), figure.get_figwidth()), fontsize=9)
    return figure


def _what(its: Measure) -> str:
    """What an axis of differences shows."""
    unit = ", ".join(each for each in (its.counted.removeprefix("in "), its.better) if each)
    return f"{unit}: mean and 95% interval; small dots are seeds"


def _draw_one(
    axis: Axes,
    line: int,
    pair: tuple[str, str],
    *,
    measured: Mapping[str, Sample],
    look: tuple[str, str],
    its: Measure,
) -> Difference:
    """One comparison on its line, and what it found."""
    (name, other), (colour, marker) = pair, look
    values, base = measured[name].values, measured[other].values
    found = difference(measured[name], measured[other])
    if found.low is not None and found.high is not None:
        limits = np.clip([found.low, found.high], -100, 100)
        (drawn,) = axis.plot(limits, [line, line], color=colour, lw=2, zorder=2)
        style.mark(drawn, arm=name)
    if found.method == "paired":
        each = {seed: values[seed] - base[seed] for seed in sorted(set(values) & set(base))}
        dots = axis.scatter(
            list(each.values()), [line + 0.22] * len(each), s=22, color=colour, alpha=0.55, lw=0
        )
        seeds = [f"seed {seed}: {its.change(gain)}" for seed, gain in each.items()]
        style.mark(dots, arm=name, said=[f"{name} less {other}, {told}" for told in seeds])
    (drawn,) = axis.plot(found.mean, line, marker=marker, ms=8, color=colour, mec="white", zorder=4)
    told = f"{name} less {other}: mean {its.difference(found)} {its.unit}"
    style.mark(drawn, arm=name, said=[told])
    return found
