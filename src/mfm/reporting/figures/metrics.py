"""Differences from the baseline on every metric, a panel each."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.files import marks, style
from mfm.reporting.measure import Measure
from mfm.reporting.metrics import Measured

_ACROSS = 3


def draw_metrics(found: Measured) -> Figure:
    """Each other arm's mean difference and its 95% interval; the better side is shaded."""
    base, arms = found.experiment.baseline, found.others
    if not arms:
        return style.nothing(f"There is no arm to compare with '{base}'.")
    down = -(-len(found.measures) // _ACROSS)
    figure = Figure(figsize=(9.0, 0.6 + down * (0.85 + 0.28 * len(arms))), layout="constrained")
    panels = figure.subplots(down, _ACROSS, squeeze=False).ravel()
    for axis in panels[len(found.measures) :]:
        axis.axis("off")
    for number, (axis, each) in enumerate(zip(panels, found.measures, strict=False)):
        _panel(axis, found, each, named=number % _ACROSS == 0)
    figure.supxlabel(f"less {style.shown(base)}: mean and 95% interval; shaded: better", fontsize=9)
    return figure


def _panel(axis: Axes, found: Measured, its: Measure, *, named: bool) -> None:
    looks = style.looks(found.arms)
    for line, arm in enumerate(found.others):
        colour, marker = looks[arm]
        gap = found.difference(arm, its.name)
        if gap.low is not None and gap.high is not None:
            (drawn,) = axis.plot([gap.low, gap.high], [line, line], color=colour, lw=2, zorder=2)
            marks.mark(drawn, arm=arm)
        (drawn,) = axis.plot(
            gap.mean, line, marker=marker, ms=7, color=colour, mec="white", zorder=3
        )
        said = f"{arm} less {found.experiment.baseline}, {its.title}: {its.difference(gap)}"
        marks.mark(drawn, arm=arm, said=[said])
    style.rows(axis, [style.shown(arm, 18) for arm in found.others])
    if not named:
        axis.set_yticklabels([])
    axis.margins(x=0.12)
    low, high = axis.get_xlim()
    low, high = min(low, 0.0), max(high, 0.0)
    axis.axvline(0, color=style.GREY, lw=1, ls="--", zorder=1)
    better = (low, 0) if its.metric.lower_is_better else (0, high)
    axis.axvspan(*better, color=style.GREY, alpha=0.1, lw=0, zorder=0)
    axis.set_xlim(low, high)
    axis.locator_params(axis="x", nbins=5)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title(f"{its.title} (points)" if its.metric.share else its.title)
