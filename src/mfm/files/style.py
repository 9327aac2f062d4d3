"""Look of all figures: colours that colour-blind readers tell apart, files that repeat."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import Container
from matplotlib.figure import Figure

from mfm.files import marks
from mfm.files.atomic import replacing
from mfm.files.marks import mark as mark

# M. Okabe and K. Ito, Color Universal Design, 2008; their yellow is too light for lines on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
GREY = "#5f5f5f"
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_INCHES = 0.078  # that a character of most names takes, at most
# For names in other scripts, where one is installed: matplotlib's own font has none of them.
_OTHER_SCRIPTS = {
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Droid Sans Fallback",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Arial Unicode MS",
}

# Letters become outlines: a figure looks alike with any fonts. The same figure, the same file.
matplotlib.rcParams.update(
    {
        "svg.fonttype": "path",
        "svg.hashsalt": "mfm",
        "text.parse_math": False,  # names of classes and arms are text, with any $ in them
        "font.family": [
            "DejaVu Sans",
            *sorted(_OTHER_SCRIPTS.intersection(font_manager.get_font_names())),
        ],
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
    found = {}
    for number, name in enumerate(arms):
        rounds, place = divmod(number, len(OKABE_ITO))
        found[name] = (OKABE_ITO[place], _MARKERS[(place + rounds) % len(_MARKERS)])
    return found


def shown(name: str, width: int = 32, *, lines: int = 1) -> str:
    """A name on so many lines; of a longer one the middle is left out, so that its end is seen."""
    text = "".join(each if each.isprintable() else " " for each in name)
    room = width * lines
    if len(text) > room:
        text = f"{text[: room // 2 - 1]}{_ELLIPSIS}{text[-(room - room // 2) :]}"
    parts = textwrap.wrap(text, width)
    if len(parts) > lines:
        parts = [text[start : start + width] for start in range(0, len(text), width)]
    return "\n".join(parts) or repr(name)


def label(name: str) -> str:
    """A name in a legend. One with '_' in front would be left out there: it gets a space before."""
    return f" {name}" if name.startswith("_") else name


def legend(figure: Figure, axis: Axes) -> None:
    """What the lines of an axis are, below the figure, which grows by it."""
    found, labels = axis.get_legend_handles_labels()
    handles = [each.get_children()[0] if isinstance(each, Container) else each for each in found]
    labels = [shown(each, 44) for each in labels]
    inches = max(map(len, labels)) * _INCHES + 0.6
    columns = max(1, min(len(labels), int(figure.get_figwidth() / inches)))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
    drawn = figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)
    for of, handle, text in zip(handles, drawn.legend_handles, drawn.get_texts(), strict=True):
        for part in (handle, text):
            if part is not None and (arm := marks.arm_of(of)) is not None:
                mark(part, arm=arm)


def wrapped(text: str, inches: float = 4.2) -> str:
    """A sentence on as many lines as it needs in a figure, or an axis, of that width."""
    return textwrap.fill(text, int(inches / _INCHES))


def percent(axis: Axis) -> None:
    """End an axis of percentages where they do, with a margin for the markers."""
    low, high = axis.get_view_interval()
    margin = 0.02 * (high - low)
    axis.set_view_interval(max(low, -margin), min(high, 100 + margin), ignore=True)


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
    figure.text(0.02, 0.5, wrapped(text, figure.get_figwidth()), va="center", color=GREY)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the path's suffix; SVG with its marks."""
    with replacing(path) as temporary, warnings.catch_warnings():
        # A script that no font has is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if path.suffix == ".svg":
            temporary.write_bytes(marks.svg(figure))
            return
        kind = path.suffix.removeprefix(".")
        figure.savefig(
            temporary, format=kind, dpi=130, facecolor="white", metadata={"Software": None}
        )
