"""Figures of a further evaluation: curves of the arms over its measures, and maps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.evaluation import further, further_evaluations
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting import words
from mfm.reporting.document import plain
from mfm.reporting.further import MeasuredArm, measured_arms
from mfm.statistics.over_seeds import Difference, Estimate

_COLUMNS = 3  # panels side by side
Cell: TypeAlias = tuple[float, float]


def draw_further(experiment: Experiment, name: str, rows: pd.DataFrame) -> Figure:
    """The figure of that name, of the evaluation whose rows these are."""
    arms = measured_arms(experiment, rows)
    figures = [each.figures() for each in further_evaluations(experiment.evaluate).values()]
    (spec,) = (found[name] for found in figures if name in found)
    return _draw_grid(spec, arms) if isinstance(spec, further.Grid) else _draw_curves(spec, arms)


def _draw_curves(spec: further.Curves, arms: Sequence[MeasuredArm]) -> Figure:
    """Panels with a curve an arm, and intervals."""
    columns = min(_COLUMNS, len(spec.panels))
    lines = -(-len(spec.panels) // columns)
    figure = Figure(figsize=(7.0, 0.4 + 2.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axis, panel in zip(axes.flat, spec.panels, strict=False):
        _draw_panel(axis, panel, arms)
    for axis in axes.flat[len(spec.panels) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("top-1 (%)")
    style.percent(axes[0, 0].yaxis)
    axes[0, 0].set_ylim(axes[0, 0].get_ylim())  # which all share
    style.legend(figure, axes[0, 0])
    return figure


def _draw_panel(axis: Axes, panel: further.Panel, arms: Sequence[MeasuredArm]) -> None:
    places = np.array(list(panel.points))
    gap = np.diff(np.sort(places)).min() if len(places) > 1 else 1.0
    for number, arm in enumerate(arms):
        # Side by side, so that intervals don't hide each other.
        shift = min(0.08, 0.5 / len(arms)) * (number - (len(arms) - 1) / 2) * gap
        each = [arm.estimate(name) for name in panel.points.values()]
        limits = [words.share_limits(one) or (one.mean, one.mean) for one in each]
        below = [one.mean - low for one, (low, _) in zip(each, limits, strict=True)]
        above = [high - one.mean for one, (_, high) in zip(each, limits, strict=True)]
        colour, marker = style.looks(list(arm.experiment.arms))[arm.name]
        drawn = axis.errorbar(
            places + shift,
            [one.mean for one in each],
            yerr=[below, above],
            color=colour,
            marker=marker,
            ms=4,
            lw=1.2,
            elinewidth=1.0,
            capsize=1.5,
            label=style.label(arm.name),
        )
        said = [
            f"{arm.name}, {panel.title}, {panel.axis} {place:g}, top-1 in %: {_told(one)}"
            for place, one in zip(places, each, strict=True)
        ]
        style.mark(drawn, arm=arm.name, said=said)
    axis.set_xticks(places, [f"{place:g}" for place in places])
    axis.set_xlabel(panel.axis, fontsize=9)
    axis.set_title(panel.title)
    axis.grid(axis="y")
    axis.set_axisbelow(True)


def _draw_grid(spec: further.Grid, arms: Sequence[MeasuredArm]) -> Figure:
    """A line for each arm: what was measured, and its difference from the baseline."""
    figure = Figure(figsize=(7.0, 0.3 + 2.7 * len(arms)), layout="constrained")
    axes = figure.subplots(len(arms), 2, squeeze=False)
    means = [{cell: arm.estimate(name) for cell, name in spec.cells.items()} for arm in arms]
    gaps = [_differences(spec, arm) for arm in arms]
    seen = [one.mean for each in means for one in each.values()]
    largest = max((abs(gap.mean) for each in gaps for gap in each.values()), default=0.0) or 1.0
    for (left, right), arm, mean, gap in zip(axes, arms, means, gaps, strict=True):
        _draw_map(left, spec, mean, colours="viridis", limits=(min(seen), max(seen)))
        left.set_title(style.shown(arm.name, 28))
        figure.colorbar(left.collections[0], ax=left, label="top-1 (%)")
        if not gap:
            right.axis("off")
            continue
        _draw_map(right, spec, gap, colours="RdBu", limits=(-largest, largest))
        right.set_title(f"less {style.shown(arm.experiment.baseline, 28)}")
        figure.colorbar(right.collections[0], ax=right, label="points of top-1")
    return figure


def _differences(spec: further.Grid, arm: MeasuredArm) -> dict[Cell, Difference]:
    found = {cell: arm.difference(name) for cell, name in spec.cells.items()}
    return {cell: gap for cell, gap in found.items() if gap is not None}


def _draw_map(
    axis: Axes,
    spec: further.Grid,
    values: Mapping[Cell, Estimate] | Mapping[Cell, Difference],
    *,
    colours: str,
    limits: tuple[float, float],
) -> None:
    """Cells of one size, whatever lies between their places; a dot where an interval misses 0."""
    down = sorted({row for row, _ in spec.cells})
    across = sorted({column for _, column in spec.cells})
    means, said = np.full((len(down), len(across)), np.nan), [[""] * len(across) for _ in down]
    for (row, column), found in values.items():
        at, beside = down.index(row), across.index(column)
        means[at, beside] = found.mean
        said[at][beside] = f"{spec.axes[0]} {row:g}, {spec.axes[1]} {column:g}: {_told(found)}"
        if isinstance(found, Difference) and _leaves_zero_out(found):
            axis.plot(beside + 0.5, at + 0.5, marker=".", ms=3, color="black")
    mesh = axis.pcolormesh(
        means, cmap=colours, vmin=limits[0], vmax=limits[1], edgecolors="white", lw=0.3
    )
    style.mark(mesh, said=said)
    for set_ticks, places in ((axis.set_yticks, down), (axis.set_xticks, across)):
        set_ticks(np.arange(len(places)) + 0.5, [f"{place:g}" for place in places], fontsize=7)
    axis.set_ylabel(spec.axes[0], fontsize=8)
    axis.set_xlabel(spec.axes[1], fontsize=8)


def _leaves_zero_out(found: Difference) -> bool:
    return found.low is not None and found.high is not None and found.low * found.high > 0


def _told(found: Estimate | Difference) -> str:
    if isinstance(found, Difference):
        return f"{words.difference(found)} points"
    return plain(words.percentage(found))
