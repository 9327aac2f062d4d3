"""Listing of a dataset's images by a file of labels, in the place of folders of classes."""

from __future__ import annotations

import math
import os
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mfm.data.folders.labels import Labels, Row
from mfm.data.folders.shards import read as read_shards
from mfm.data.folders.shards import tars_in
from mfm.data.folders.tree import UNLABELLED, Found, Tree, count_files
from mfm.data.pictures.headers import Unread
from mfm.errors import UserError
from mfm.files.lines import few, shown


def survey(
    labels: Labels,
    roots: Mapping[str, Path],
    leave_out: Callable[[str, Unread], None],
    *,
    keep: Path | None = None,
    until: float = math.inf,
) -> Tree:
    """The tree of the images that a file lists, and of unlabelled ones as they lie in their folder.

    `roots` and `keep` as of `mfm.data.folders.tree.survey`, and so is what is raised; UserError
    for tars, too. A row without a file is a fault.
    """
    others = {split: root for split, root in roots.items() if split not in labels.folders}
    tree = Tree(
        roots,
        classes=labels.classes,
        loose=[],
        has_groups=labels.has_groups,
        shards=read_shards(others, unlabelled=UNLABELLED, keep=keep, until=until),
    )
    missing = _missing(labels, until)
    for folder in labels.folders.values() if missing else ():
        if tars_in(folder):
            raise UserError(
                f"{shown(labels.file)} lists files, and {shown(folder.resolve())} holds tars, "
                "which say their classes themselves: leave dataset.labels out, or unpack them"
            )
    tree.listed = list(_found(labels, {row.line for row in missing}))
    tree.faults += _fault(labels, missing)
    count_files(tree, leave_out, until=until)
    return tree


def _found(labels: Labels, missing: set[int]) -> Iterator[Found]:
    numbers = {name: number for number, name in enumerate(labels.classes)}
    start = {
        split: 0 if folder == labels.root else len(split) + 1
        for split, folder in labels.folders.items()
    }
    for row in labels.rows:
        if row.line in missing:
            continue
        path = f"{row.split}/{row.path[start[row.split] :]}"
        yield Found(row.split, path, numbers[row.label], row.label, group=row.group)


def _missing(labels: Labels, until: float) -> list[Row]:
    """The rows whose files aren't there, in the order of the file."""
    missing: list[Row] = []
    for row in labels.rows:
        if not os.path.isfile(labels.root / row.path):
            missing.append(row)
        if time.monotonic() > until:
            raise TimeoutError
    return sorted(missing, key=lambda row: row.line)


def _fault(labels: Labels, missing: Sequence[Row]) -> list[str]:
    if not missing:
        return []
    files = "a file that is" if len(missing) == 1 else f"{len(missing)} files that are"
    told = f"{_few(missing)}{_meant(labels.root, missing)}"
    return [
        f"{shown(labels.file)} lists {files} not in {shown(labels.root)}: {told}; its paths are "
        "below dataset.source"
    ]


def _few(rows: Sequence[Row]) -> str:
    return few([f"{shown(row.path)} (line {row.line})" for row in rows])


def _meant(root: Path, rows: Sequence[Row]) -> str:
    """A hint at the file whose name is that of the first row, but for ending, capitals or form."""
    wanted = root / rows[0].path
    try:
        with os.scandir(wanted.parent) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return ""
    same = (wanted.name.lower(), wanted.stem.lower())
    for name in names:
        if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", wanted.name):
            return f" (there is {name!a}, the same letters in another Unicode form: NFC, NFD)"
        if name.lower() in same or Path(name).stem.lower() == same[0]:
            return f" (did you mean {shown(name)}?)"
    return ""
