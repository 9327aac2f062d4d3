"""Files that are left out of a dataset: each with its kind and reason, and a few to show."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfm.data.pictures.headers import LOOSE, OTHER, Unread
from mfm.files.atomic import replacing
from mfm.files.lines import shown

NAME = "left_out.csv"
SYSTEM = "system file"
_SYSTEMS = frozenset(
    (
        *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
        *("system volume information", "@eadir", "lost+found"),
    )
)
_EXAMPLES, _SHOWN = 5, 3  # of a kind
_WHAT = {
    OTHER: "no image",
    LOOSE: "outside of the class folders, so of no class",
    SYSTEM: "hidden, or left there by an operating system",
}


@dataclass
class Kind:
    """Files that are left out for one reason."""

    number: int = 0
    examples: list[str] = field(default_factory=list)  # the first ones
    reasons: list[str] = field(default_factory=list)  # theirs


class LeftOut:
    """What is left out of a dataset, by kind. Every file stands in left_out.csv."""

    def __init__(self, write: Callable[[Sequence[str]], object] = lambda row: None) -> None:
        self._write = write
        self.kinds: dict[str, Kind] = {}

    def add(self, path: str, unread: Unread) -> None:
        """One more file."""
        self._write([path, *unread])
        kind = self.kinds.setdefault(unread.kind, Kind())
        kind.number += 1
        if len(kind.examples) < _EXAMPLES:
            kind.examples.append(path)
            kind.reasons.append(unread.reason)

    @property
    def bad(self) -> dict[str, Kind]:
        """Those that are, or are named as, images."""
        return {kind: each for kind, each in self.kinds.items() if is_bad(kind)}

    def bad_images(self, at: Callable[[str], str]) -> tuple[int, str]:
        """How many images can't be read, and a few of each kind with their reasons."""
        number = sum(each.number for each in self.bad.values())
        few = max(1, _EXAMPLES // max(1, len(self.bad)))
        parts = [
            f"{at(path)} ({reason})"
            for each in self.bad.values()
            for path, reason in list(zip(each.examples, each.reasons, strict=True))[:few]
        ]
        more = f" and {number - len(parts)} more" * (number > len(parts))
        return number, f"{', '.join(parts)}{more}"

    def summary(self) -> dict[str, dict[str, Any]]:
        """Number and examples of each kind, as plain JSON values."""
        return {
            kind: {"number": each.number, "examples": each.examples[:_SHOWN]}
            for kind, each in sorted(self.kinds.items())
        }


@contextmanager
def writing(folder: Path) -> Iterator[LeftOut]:
    """The file left_out.csv of a dataset's folder, whole when all have been added."""
    with (
        replacing(folder / NAME) as temporary,
        # A name that isn't UTF-8 can be that of a hidden file only.
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(["path", "kind", "reason"])
        yield LeftOut(writer.writerow)


def is_systems(name: str) -> bool:
    """Whether a name is that of something that an operating system leaves, or hidden."""
    return name.startswith(".") or name.lower() in _SYSTEMS


def is_bad(kind: str) -> bool:
    """Whether files of this kind are images, or named as such."""
    return kind not in _WHAT


def read(folder: Path) -> list[dict[str, str]]:
    """Each file's path, kind and reason."""
    with open(folder / NAME, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def told(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """How many files of which kind were left out, why, and a few of each; '' for none."""
    parts = []
    for kind, each in summary.items():
        names = ", ".join(shown(path) for path in each["examples"])
        more = ", ..." * (each["number"] > len(each["examples"]))
        why = f"{_WHAT[kind]}: " if kind in _WHAT else ""
        parts.append(f"{kind} {each['number']:,} ({why}{names}{more})")
    return "; ".join(parts)
