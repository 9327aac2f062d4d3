"""Marks of figures: what a point, line, bar or cell says under a pointer, and whose it is.

In an SVG file they are elements with a `<title>`, which any browser shows, inside of groups that
carry the arm's name. The report's script shows them at once, and switches arms off and on.
"""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET  # parses what matplotlib has just written
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.container import Container, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

SVG = "http://www.w3.org/2000/svg"
LINK = "http://www.w3.org/1999/xlink"
_RADIUS = 5  # of what answers around a point, in 1/72 inch
Said: TypeAlias = str | Sequence[str] | Sequence[Sequence[str]]
_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Mark:
    arm: str | None
    said: Said | None


_MARKS: WeakKeyDictionary[Artist, _Mark] = WeakKeyDictionary()


def mark(drawn: Artist | Container, *, arm: str | None = None, said: Said | None = None) -> None:
    """Say whose something drawn is, and what it tells with its numbers: 'mfm, seed 2: 76.31%'.

    `said` is one text for all of it; or one for each point of a line or scatter, or each bar; or
    rows of them for the cells of an image or mesh. Where it is empty, nothing answers. `arm` is the
    one to switch off with it.
    """
    if isinstance(drawn, ErrorbarContainer):
        for part in drawn.get_children():
            mark(part, arm=arm, said=said if part is drawn.lines[0] else None)
    elif isinstance(drawn, Container):
        parts = drawn.get_children()
        texts: Sequence[Said | None] = [said] * len(parts) if _single(said) else list(said or ())
        for part, text in zip(parts, texts, strict=True):
            mark(part, arm=arm, said=text)
    else:
        _MARKS[drawn] = _Mark(arm=arm, said=said)


def arm_of(drawn: Artist) -> str | None:
    """The arm that something drawn belongs to."""
    found = _MARKS.get(drawn)
    return found.arm if found else None


def svg(figure: Figure) -> bytes:
    """A figure as SVG with its marks; the same figure, the same bytes."""
    marked = [each for each in figure.findobj() if each in _MARKS]
    names = {f"mark{number}": each for number, each in enumerate(marked, 1)}
    for name, each in names.items():
        each.set_gid(name)
    written = io.BytesIO()
    figure.savefig(written, format="svg", facecolor="white", metadata={"Date": None})
    root = ET.fromstring(written.getvalue())
    for parent in list(root.iter()):
        for place, element in enumerate(parent):
            if (artist := names.get(element.get("id", ""))) is not None:
                if isinstance(artist, AxesImage):  # matplotlib gives it no group
                    parent[place] = ET.Element(f"{{{SVG}}}g", {"id": element.attrib.pop("id")})
                    parent[place].append(element)
                _label(parent[place], artist, figure)
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", LINK)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _label(group: ET.Element, artist: Artist, figure: Figure) -> None:
    found = _MARKS[artist]
    if found.arm is not None:
        group.set("data-arm", printable(found.arm))
    if isinstance(found.said, str):
        title = ET.Element(f"{{{SVG}}}title")
        title.text = printable(found.said)
        group.insert(0, title)
    elif found.said is not None:
        _add_places(group, artist, found.said, figure)


def _add_places(group: ET.Element, artist: Artist, said: Said, figure: Figure) -> None:
    """Something to point at on each point or cell that is seen: it is transparent."""
    texts = [text for row in said for text in ([row] if isinstance(row, str) else row)]
    corners = _cells(artist) if isinstance(artist, AxesImage | QuadMesh) else _points(artist)
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
    seen = artist.axes.bbox.padded(1) if artist.axes is not None else figure.bbox
    for text, low, high in zip(texts, *corners, strict=True):
        middle = (low + high) / 2
        if not (text and np.isfinite(middle).all() and seen.contains(*middle)):
            continue
        x, y = np.minimum(low, high)[0] * scale, height - np.maximum(low, high)[1] * scale
        wide, tall = abs(high - low) * scale
        form = "rect" if wide or tall else "circle"
        place = ET.SubElement(group, f"{{{SVG}}}{form}", {"fill": "transparent"})
        numbers = {"x": x, "y": y, "width": wide, "height": tall}
        if form == "circle":
            numbers = {"cx": x, "cy": y, "r": _RADIUS}
        for key, number in numbers.items():
            place.set(key, f"{number:.2f}".rstrip("0").rstrip("."))
        ET.SubElement(place, f"{{{SVG}}}title").text = printable(text)


def _points(artist: Artist) -> tuple[_Floats, _Floats]:
    """Pixels of each point, twice."""
    if isinstance(artist, Line2D):
        found = artist.get_transform().transform(artist.get_xydata())
    elif isinstance(artist, PathCollection):
        found = artist.get_offset_transform().transform(artist.get_offsets())
    else:
        raise TypeError(f"what {type(artist).__name__} draws has no points: give one text")
    points: _Floats = np.ma.filled(np.ma.asarray(found, float), np.nan)
    return points, points


def _cells(artist: AxesImage | QuadMesh) -> tuple[_Floats, _Floats]:
    """Pixels of two opposite corners of each cell, row by row."""
    if isinstance(artist, QuadMesh):
        grid = np.asarray(artist.get_coordinates(), np.float64)
    else:
        left, right, bottom, top = artist.get_extent()
        rows, columns = artist.get_size()
        ends = (top, bottom) if artist.origin == "upper" else (bottom, top)
        across, down = np.linspace(left, right, columns + 1), np.linspace(*ends, rows + 1)
        grid = np.stack(np.meshgrid(across, down), axis=-1)
    corners = [grid[:-1, :-1].reshape(-1, 2), grid[1:, 1:].reshape(-1, 2)]
    first, second = (artist.get_transform().transform(each) for each in corners)
    return first, second


def printable(text: str) -> str:
    """A text without what a file of XML can't hold, on one line."""
    return "".join(each if each.isprintable() else " " for each in text)


def _single(said: Said | None) -> bool:
    return said is None or isinstance(said, str)
