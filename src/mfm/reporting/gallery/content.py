"""Content of a gallery: sentences, images and their predictions, as the file gallery.json has them.

All names in it are text. Thumbnails are in it, so that a page needs no images.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mfm.files.atomic import write_text

NAME = "gallery.json"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one arm says of an image."""

    arm: str
    right: int  # seeds
    seeds: int
    prediction: str  # of most seeds
    agreeing: int  # seeds that say so
    of_prediction: float  # its mean probability in those
    of_label: float  # mean over all seeds


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image."""

    path: str
    label: str
    told: list[Told]
    source: str  # of its thumbnail; '' where there is none
    width: int
    height: int
    missing: str  # why there is none


@dataclass(frozen=True, kw_only=True)
class Row:
    """Images beside each other; of a class, what is known of it."""

    title: str
    said: str
    images: list[Shown]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A heading, and what is below it."""

    title: str
    said: list[str]
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """All of it; no parts where no two arms are compared."""

    said: list[str]
    parts: list[Part]


def save(gallery: Gallery, path: Path) -> None:
    """Write it."""
    write_text(path, json.dumps(asdict(gallery), ensure_ascii=False, indent=1) + "\n")


def load(path: Path) -> Gallery:
    """What `save` wrote."""
    said = json.loads(path.read_text(encoding="utf-8"))
    return Gallery(said=said["said"], parts=[_part(each) for each in said["parts"]])


def _part(said: dict[str, Any]) -> Part:
    return Part(**{**said, "rows": [_row(each) for each in said["rows"]]})


def _row(said: dict[str, Any]) -> Row:
    return Row(**{**said, "images": [_shown(each) for each in said["images"]]})


def _shown(said: dict[str, Any]) -> Shown:
    return Shown(**{**said, "told": [Told(**each) for each in said["told"]]})
