"""Accuracy against cost: which arms no cheaper one is as good as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from mfm.experiment.arms import FromWeights
from mfm.experiment.resolve import pretraining_of
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting import words
from mfm.reporting.document import plain
from mfm.reporting.verdict import samples
from mfm.statistics.over_seeds import Estimate, estimate

# Seconds of each pretraining's runs, by its name.
Seconds = Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Priced:
    """An arm: what one run of it took, its pretraining included, and how good it is."""

    arm: str
    seconds: float
    found: Estimate


def draw_frontier(experiment: Experiment, results: pd.DataFrame, pretrained: Seconds) -> Figure:
    """Each arm's mean and 95% interval over the time of a pretraining and a finetuning.

    A line joins the arms that no other one dominates. Arms whose weights were trained elsewhere
    have no known cost, and are named below.
    """
    priced = prices(experiment, results, pretrained)
    measured = [arm for arm in experiment.arms if (results["arm"] == arm).any()]
    if not priced or min(each.seconds for each in priced) <= 0:
        return style.nothing("The cost of these arms is not known.")
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axis = figure.subplots()
    looks = style.looks(measured)
    unit = words.unit_of(each.seconds for each in priced)
    scale = words.SECONDS[unit]
    best = frontier(priced)
    axis.step(
        [each.seconds / scale for each in best],
        [each.found.mean for each in best],
        where="post",
        color=style.GREY,
        lw=1,
        ls="--",
        zorder=1,
    )
    for each in priced:
        colour, marker = looks[each.arm]
        place = each.seconds / scale
        if (limits := words.share_limits(each.found)) is not None:
            (drawn,) = axis.plot([place, place], limits, color=colour, lw=1.5, alpha=0.6, zorder=2)
            style.mark(drawn, arm=each.arm)
        (drawn,) = axis.plot(
            place,
            each.found.mean,
            marker=marker,
            ms=8,
            ls="",
            color=colour,
            mec="white",
            label=style.label(each.arm),
            zorder=3,
        )
        top1 = plain(words.percentage(each.found))
        told = f"{each.arm}, mean top-1 in %: {top1}, after {words.duration(each.seconds)}"
        style.mark(drawn, arm=each.arm, said=[told])
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    style.percent(axis.yaxis)
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    axis.set_ylabel("top-1 (%), mean and 95% interval")
    unpriced = [style.shown(arm) for arm in measured if arm not in {each.arm for each in priced}]
    left = f"; not drawn, trained elsewhere: {', '.join(unpriced)}" if unpriced else ""
    said = f"a pretraining and a finetuning ({unit}); dashed: no cheaper arm is better{left}"
    axis.set_xlabel(style.wrapped(said, 6.0), fontsize=9)
    style.legend(figure, axis)
    return figure


def prices(experiment: Experiment, results: pd.DataFrame, pretrained: Seconds) -> list[Priced]:
    """The arms whose whole cost was measured here, in the experiment's order."""
    found = []
    for arm, sample in samples(experiment, results).items():
        name, source = pretraining_of(experiment, arm), experiment.arms[arm]
        elsewhere = isinstance(source, FromWeights) and source.weights is not None
        if elsewhere or (name is not None and experiment.pretrain[name].weights is not None):
            continue
        before = pretrained[name] if name is not None else [0.0]
        own = float(results.loc[results["arm"] == arm, "seconds"].mean())
        found.append(
            Priced(arm=arm, seconds=sum(before) / len(before) + own, found=estimate(sample))
        )
    return found


def frontier(priced: Sequence[Priced]) -> list[Priced]:
    """The arms that are better than all cheaper ones, the cheapest first."""
    best: list[Priced] = []
    for each in sorted(priced, key=lambda one: (one.seconds, -one.found.mean)):
        if not best or each.found.mean > best[-1].found.mean:
            best.append(each)
    return best
