"""Figure of a study: accuracy over its values."""

from __future__ import annotations

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.files import style
from mfm.reporting import words
from mfm.reporting.document import plain
from mfm.reporting.variants import Compared


def draw_study(found: Compared) -> Figure:
    """One curve an arm with 95% intervals, over labelled images where these differ.

    The experiment's own value, which was fixed in advance, is marked. The baseline is drawn even
    where the values don't change it.
    """
    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axis = figure.subplots()
    places = _places(found)
    axis.axvline(places[found.own], color=style.GREY, lw=1, ls="--", zorder=1)
    arms = [
        arm
        for arm in found.experiment.arms
        if arm in found.arms or arm == found.experiment.baseline
    ]
    looks = style.looks(list(found.experiment.arms))
    for number, arm in enumerate(arms):
        shift = min(0.12, 0.8 / len(arms)) * (number - (len(arms) - 1) / 2)
        _draw_arm(axis, found, arm, look=looks[arm], places=_shifted(found, places, shift))
    _label_values(axis, found, places)
    axis.set_ylabel("top-1 (%), mean and 95% interval")
    style.percent(axis.yaxis)
    of, on = found.experiment.model.backbone, found.experiment.dataset.name
    axis.set_title(f"{style.shown(of)} on {style.shown(on)}")
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    style.legend(figure, axis)
    return figure


def _draw_arm(
    axis: Axes, found: Compared, arm: str, *, look: tuple[str, str], places: dict[str, float]
) -> None:
    names = [name for name in places if (name, arm) in found.top1]
    each = [found.estimate(name, arm) for name in names]
    limits = [words.share_limits(one) or (one.mean, one.mean) for one in each]
    drawn = axis.errorbar(
        [places[name] for name in names],
        [one.mean for one in each],
        yerr=[
            [one.mean - low for one, (low, _) in zip(each, limits, strict=True)],
            [high - one.mean for one, (_, high) in zip(each, limits, strict=True)],
        ],
        color=look[0],
        marker=look[1],
        ms=5,
        lw=1.2,
        ls="-" if found.labelled_differ or found.numeric else "",
        elinewidth=1.2,
        capsize=2,
        label=style.label(arm),
    )
    said = [
        f"{arm}, {name}, top-1 in %: {plain(words.percentage(one))}"
        for name, one in zip(names, each, strict=True)
    ]
    style.mark(drawn, arm=arm, said=said)


def _places(found: Compared) -> dict[str, float]:
    """Where each value stands on the axis."""
    if found.labelled_differ:
        return {variant.name: found.images[variant.name] for variant in found.variants}
    if found.numeric:
        return {variant.name: float(variant.value) for variant in found.variants}
    return {variant.name: float(number) for number, variant in enumerate(found.variants)}


def _shifted(found: Compared, places: dict[str, float], by: float) -> dict[str, float]:
    """Side by side, so that intervals don't hide each other; `by` in the nearest values' gap."""
    pairs = list(itertools.pairwise(places.values()))
    if found.labelled_differ:  # on a scale of ratios
        ratio = min(b / a for a, b in pairs)
        return {name: place * ratio**by for name, place in places.items()}
    gap = min((b - a for a, b in pairs), default=1.0)
    return {name: place + by * gap for name, place in places.items()}


def _label_values(axis: Axes, found: Compared, places: dict[str, float]) -> None:
    marked = f"dashed: {style.shown(found.own)}, the table's, fixed in advance"
    if found.labelled_differ:
        axis.set_xscale("log")
        axis.set_xticks(
            sorted(set(places.values())), [f"{at:,.0f}" for at in sorted(set(places.values()))]
        )
        axis.minorticks_off()
        axis.set_xlabel(style.wrapped(f"labelled images; {marked}", 6.0), fontsize=9)
        return
    crowded = sum(len(name) for name in places) > 60
    axis.set_xticks(
        list(places.values()),
        [style.shown(name, 24) for name in places],
        rotation=20 if crowded else 0,
        ha="right" if crowded else "center",
    )
    axis.set_xlabel(style.wrapped(f"{found.key}; {marked}", 6.0), fontsize=9)
