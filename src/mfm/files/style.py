"""Look of all figures: colours that colour-blind readers tell apart, files that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfm.files.atomic import replacing

# M. Okabe and K. Ito, Color Universal Design, 2008; their yellow is too light for lines on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
GREY = "#5f5f5f"

# Letters become outlines: a figure looks alike with any fonts. The same figure, the same file.
matplotlib.rcParams.update(
    {
        "svg.fonttype": "path",
        "svg.hashsalt": "mfm",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.grid": False,
        "grid.color": "#d9d9d9",
        "legend.frameon": False,
    }
)


def looks(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each arm, by its place in the configuration."""
    return {
        name: (OKABE_ITO[number % len(OKABE_ITO)], _MARKERS[number % len(_MARKERS)])
        for number, name in enumerate(arms)
    }


def rows(axis: Axes, names: Sequence[str]) -> None:
    """One horizontal line of the figure for each name, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.45, -0.55)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    axis.set_axisbelow(True)


def nothing(text: str) -> Figure:
    """A figure that says why there is none."""
    figure = Figure(figsize=(7.0, 0.8))
    figure.text(0.02, 0.5, text, va="center", color=GREY)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the path's suffix."""
    kind = path.suffix.removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=130, facecolor="white", metadata=metadata)
