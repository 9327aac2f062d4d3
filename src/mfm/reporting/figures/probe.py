"""Figure of the probes: what is read from frozen features, over labelled images."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.evaluation.frozen.settings import FLOORS
from mfm.files import style
from mfm.reporting.document import plain
from mfm.reporting.frozen import Readings, shown
from mfm.reporting.probe import Reading, method_title, readings
from mfm.reporting.words import percentage, share_limits

_FLOORS = {"pixels": ("v", "--"), "random": ("s", ":")}  # marker and line


def draw_probe(found: Readings) -> Figure:
    """A panel a method, with one line and 95% intervals for each kind of features."""
    rows = readings(found)
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(max(7.0, 3.0 * len(methods)), 3.6), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, methods, strict=True):
        _draw_method(panel, found, [row for row in rows if row.method == method])
        panel.set_title(method_title(method))
    style.percent(panels[0].yaxis)
    panels[0].set_ylabel("top-1 (%), mean and 95% interval")
    style.legend(figure, panels[0])
    return figure


def _draw_method(panel: Axes, found: Readings, rows: list[Reading]) -> None:
    looks = style.looks(list(found.experiment.arms))
    kinds = list(dict.fromkeys(row.features for row in rows))
    for number, name in enumerate(kinds):
        mine = [row for row in rows if row.features == name]
        limits = [share_limits(row.top1) or (row.top1.mean, row.top1.mean) for row in mine]
        marker, line = _FLOORS.get(name, (looks.get(name, ("", "o"))[1], "-"))
        shift = 1.03 ** (number - (len(kinds) - 1) / 2)  # so that intervals don't hide each other
        drawn = panel.errorbar(
            [row.images * shift for row in mine],
            [row.top1.mean for row in mine],
            yerr=[
                [row.top1.mean - low for row, (low, _) in zip(mine, limits, strict=True)],
                [high - row.top1.mean for row, (_, high) in zip(mine, limits, strict=True)],
            ],
            color=style.GREY if name in FLOORS else looks[name][0],
            marker=marker,
            ls=line,
            ms=5,
            lw=1.2,
            elinewidth=1.2,
            capsize=2,
            label=style.label(shown(name)),
        )
        said = [
            f"{shown(name)}, {row.amount}, top-1 in %: {plain(percentage(row.top1))}"
            for row in mine
        ]
        style.mark(drawn, arm=name, said=said)
    ticks = sorted({row.images for row in rows})
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{at:,.0f}" for at in ticks])
    panel.minorticks_off()
    panel.set_xlabel("labelled images", fontsize=9)
    panel.grid(axis="y")
    panel.set_axisbelow(True)
