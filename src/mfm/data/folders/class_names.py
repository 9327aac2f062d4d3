"""Names of class folders against the classes that a dataset has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mfm.errors import UserError
from mfm.files.lines import shown
from mfm.settings.messages import closest

_SHOWN = 3
_DEEPEST = 3  # folders that are looked at for the classes' own ones


def unknown(root: Path, names: Sequence[str], classes: Sequence[str]) -> list[str]:
    """A fault that tells of the folders below `root` that are named as no class, and what to do."""
    strange = [name for name in names if name not in set(classes)]
    if not strange:
        return []
    one = len(strange) == 1
    more = f" and {len(strange) - _SHOWN} more" * (len(strange) > _SHOWN)
    listed = ", ".join(_meant(name, classes) for name in strange[:_SHOWN])
    told = f"{shown(root)} has folders that the dataset has no classes of: {listed}{more}"
    if one:
        told = f"{shown(root)} has a folder that the dataset has no class of: {listed}"
    below = _classes_below(root / strange[0], classes)
    if below is not None:
        return [f"{told}; name the folder that holds the classes' own, such as {shown(below)}"]
    if all(name.isdecimal() for name in names):
        return [
            f"{told}; if they number the dataset's classes in the order of their names, from 0 on "
            f"(as ImageNet-V2's do), say so: {{folder: {shown(root)}, numbered: true}}"
        ]
    return [f"{told}; rename {'it' if one else 'them'}, or move {'it' if one else 'them'} away"]


def numbered(root: Path, names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """The class of each folder that is a class's number, from 0 on, by the folder's name.

    Raises UserError for a folder that is none, and for two of one class.
    """
    wrong = [name for name in names if not (name.isdecimal() and int(name) < len(classes))]
    if wrong:
        raise UserError(
            f"{shown(root)} has a folder '{shown(wrong[0])}', and with numbered: true they are "
            f"numbers from 0 to {len(classes) - 1}; leave that out where they are classes' names"
        )
    found = {name: classes[int(name)] for name in names}
    if len(set(found.values())) < len(found):
        raise UserError(f"{shown(root)} has one number twice, such as '1' and '01'")
    return found


def _meant(name: str, classes: Sequence[str]) -> str:
    near = None if name.isdecimal() else closest(name, classes)
    return f"'{shown(name)}'" + (f" (did you mean '{shown(near)}'?)" if near else "")


def _classes_below(folder: Path, classes: Sequence[str]) -> Path | None:
    """The first folder at or below this one that has a folder named as a class."""
    for _ in range(_DEEPEST):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        except OSError:
            return None
        if set(names) & set(classes):
            return folder
        if not names:
            return None
        folder /= names[0]
    return None
