"""Labels of a CSV file: path, label, and if it says so split and group of each image, as text."""

from __future__ import annotations

import csv
import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import NamedTuple

from mfm.data.folders.tree import differing, quoted
from mfm.data.settings import Dataset
from mfm.errors import UserError, several
from mfm.files.lines import few, shown
from mfm.settings.messages import closest

_NEEDED, _OTHERS = ("path", "label"), ("split", "group")
_SPLITS = ("train", "val")
_SEPARATORS = (",", ";", "\t")
# What such columns are called elsewhere.
_SAME = {
    "path": ("file", "filename", "filepath", "image", "image_id", "image_path", "img", "name"),
    "label": ("class", "category", "target", "diagnosis", "dx", "species", "y"),
    "group": ("patient", "patient_id", "subject", "subject_id", "person", "lesion_id", "slide_id"),
}
_ALMOST = 0.8  # of 1: a column so like one that may be there is meant for it


class Row(NamedTuple):
    """One image. Its place in the order of rows is that which it has in folders of classes."""

    split: str
    label: str
    path: str  # below the dataset's folder, with '/'
    group: str  # '' of an image that is its own
    line: int  # of the file


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The images that a file lists, in the order of splits, classes and the paths' parts."""

    file: Path
    root: Path  # the dataset's folder
    rows: Sequence[Row]
    has_groups: bool
    classes: list[str]
    folders: Mapping[str, Path]  # of each split: what its paths are below


def labels_of(dataset: Dataset) -> Labels | None:
    """Those that a dataset's settings name; None where its folders are the classes.

    Raises UserError with all that is wrong with the text; whether the images are there is not
    looked at.
    """
    if dataset.labels is None:
        return None
    file, root = Path(dataset.labels).expanduser(), Path(dataset.source).expanduser()
    return _labels(file, root, divided=dataset.val_fraction is None)


def has_val(file: Path, root: Path) -> bool:
    """Whether a file says of some images that they are val; raises UserError as `labels_of`."""
    return any(row.split == "val" for row in _Reader(file, root).read())


def _labels(file: Path, root: Path, *, divided: bool) -> Labels:
    rows = _Reader(file, root).read()
    # By the paths' parts: nothing is less than what stands between them.
    rows.sort(key=lambda row: (_SPLITS.index(row.split), row.label, row.path.replace("/", "\0")))
    names: dict[str, set[str]] = {split: set() for split in _SPLITS}
    for row in rows:
        names[row.split].add(row.label)
    if divided and not names["val"]:
        raise UserError(
            f"{shown(file)} has no image of split val: say in a column split which are, or set "
            "dataset.val_fraction, which takes val from the images there are"
        )
    if not divided and names["val"]:
        raise UserError(
            f"dataset.val_fraction: {shown(file)} says itself which images are val; leave "
            "val_fraction out to use that, or the column split"
        )
    faults = [*_alike(file, names), *(_on_both_sides(file, rows) if divided else [])]
    if divided:
        faults += differing(f"the images of train and val in {shown(file)}", "classes", names)
    if faults:
        raise several(faults)
    return Labels(
        file=file,
        root=root,
        rows=rows,
        has_groups=any(row.group for row in rows),
        classes=sorted(names["train"] | names["val"]),
        folders=dict(_folders(root, rows)),
    )


def _folders(root: Path, rows: Sequence[Row]) -> Iterator[tuple[str, Path]]:
    """The dataset's folder, or the split's own where all its images lie in it.

    So paths below it are those that the same images have without a file.
    """
    for split in dict.fromkeys(row.split for row in rows):
        inside = all(row.path.startswith(f"{split}/") for row in rows if row.split == split)
        yield split, root / split if inside else root


def _alike(file: Path, names: Mapping[str, set[str]]) -> list[str]:
    """A fault of classes that are the same letters in two Unicode forms."""
    found = defaultdict(list)
    for name in sorted(names["train"] | names["val"]):
        found[unicodedata.normalize("NFC", name)].append(name)
    return [
        f"{shown(file)} has labels of the same letters in two Unicode forms (NFC and NFD): "
        f"{', '.join(ascii(name) for name in each)}; write one of them"
        for each in found.values()
        if len(each) > 1
    ]


def _on_both_sides(file: Path, rows: Sequence[Row]) -> list[str]:
    sides: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if row.group:
            sides[row.group].setdefault(row.split, row.line)
    both = {group: lines for group, lines in sides.items() if len(lines) > 1}
    if not both:
        return []
    told = [
        f"{quoted(group)} (line {lines['train']} train, line {lines['val']} val)"
        for group, lines in both.items()
    ]
    one = len(told) == 1
    return [
        f"{shown(file)} has {'a group' if one else 'groups'} in train and in val: {few(told)}; put "
        f"{'it' if one else 'each'} on one side, or leave the column split out and set "
        "dataset.val_fraction, which keeps groups together"
    ]


@dataclass
class _Reader:
    """A file's rows, and all that is wrong with single ones."""

    file: Path
    root: Path
    _faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _lines: dict[str, int] = field(default_factory=dict)  # by path

    def read(self) -> list[Row]:
        """The rows in the file's order."""
        self._root = os.path.abspath(self.root)
        try:
            with open(self.file, newline="", encoding="utf-8-sig") as text:
                rows = list(self._rows(text.readline(), text))
        except UnicodeDecodeError:
            raise self._not_utf8() from None
        except csv.Error as error:
            raise UserError(f"{shown(self.file)} is no CSV file: {error}") from None
        except OSError as error:
            raise UserError(f"{shown(self.file)} can't be read: {error.strerror}") from None
        faults = [f"{shown(self.file)}: {few(each)}{what}" for what, each in self._faults.items()]
        if faults:
            raise several(faults)
        if not rows:
            raise UserError(f"{shown(self.file)} lists no images")
        return rows

    def _not_utf8(self) -> UserError:
        return UserError(
            f"{shown(self.file)} isn't UTF-8: save it as CSV in UTF-8 (in Excel 'CSV UTF-8')"
        )

    def _rows(self, head: str, text: Iterator[str]) -> Iterator[Row]:
        if not head.strip():
            raise UserError(f"{shown(self.file)} is empty: its first line is path,label")
        if "\0" in head:
            raise self._not_utf8()
        separator = max(_SEPARATORS, key=head.count)
        heads = csv.reader([head], delimiter=separator, skipinitialspace=True)
        columns = [name.strip() for name in next(heads, [])]
        self._check_columns(columns)
        reader = csv.reader(text, delimiter=separator, skipinitialspace=True)
        for cells in reader:
            line = reader.line_num + 1  # that of the columns comes before
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                self._faults[
                    f" of other than {len(columns)} cells, which the first line has; put quotes "
                    f'round what holds {separator!r}: "a{separator}b"'
                ].append(f"line {line}")
                continue
            row = self._row(dict(zip(columns, (cell.strip() for cell in cells), strict=True)), line)
            if row is not None:
                yield row

    def _check_columns(self, columns: Sequence[str]) -> None:
        others = [name for name in columns if name not in (*_NEEDED, *_OTHERS)]
        missing = [name for name in _NEEDED if name not in columns]
        if missing:
            hints = [
                f"call its column {quoted(near)} {name}"
                for name in missing
                if (near := _meant(name, others)) is not None
            ]
            there = f"its first line says {few([quoted(name) for name in columns])}"
            raise UserError(
                f"{shown(self.file)} has no column {' and none '.join(missing)}: "
                f"{' and '.join(hints) if hints else there}; it needs path and label, and may have "
                "split and group"
            )
        for name in (*_NEEDED, *_OTHERS):
            if columns.count(name) > 1:
                raise UserError(f"{shown(self.file)} has two columns '{name}'; remove one")
            near = _meant(name, others, alike=_ALMOST) if name in _OTHERS else None
            if near is not None and name not in columns:
                raise UserError(
                    f"{shown(self.file)} has a column {quoted(near)}, which isn't read: call it "
                    f"{name}, or something that doesn't mean that"
                )

    def _row(self, cells: Mapping[str, str], line: int) -> Row | None:
        """The row of a line, or None for one with a fault, which is kept to be told."""
        at = f"line {line}"
        split = cells.get("split", "train")
        path = self._path(cells["path"])
        faults = []
        if not cells["path"]:
            faults.append(" without a path")
        elif path is None:
            faults.append(f" with a path that is outside of {shown(self.root)}")
            at += f" ({shown(cells['path'])})"
        if not cells["label"]:
            faults.append(
                " without a label; images without labels go to a folder of their own, "
                "dataset.unlabelled"
            )
        if not split:
            faults.append(" without a split: say train or val of every image")
        elif split not in _SPLITS:
            near = closest(split, _SPLITS)
            hint = f" (did you mean {near}?)" if near else "; what is evaluated on is called val"
            faults.append(f" with a split that is neither train nor val{hint}")
            at += f" ({quoted(split)})"
        if path is not None and path in self._lines:
            faults.append(" with a path for the second time; an image has one label")
            at += f" ({shown(path)}, first on line {self._lines[path]})"
        for fault in faults:
            self._faults[fault].append(at)
        if faults or path is None:
            return None
        self._lines[path] = line
        # Names that look alike are one patient's; of labels, which are names of folders, it's told.
        group = unicodedata.normalize("NFC", cells.get("group", ""))
        # Of a million lines, few words are different.
        return Row(intern(split), intern(cells["label"]), path, intern(group), line)

    def _path(self, text: str) -> str | None:
        """The path below the dataset's folder; None for one that isn't."""
        if "\\" in text and not os.path.lexists(os.path.join(self._root, text)):
            text = text.replace("\\", "/")  # as Windows writes it
        if os.path.isabs(text):
            inside = os.path.relpath(text, self._root)
            if inside.startswith(".."):  # or by another way
                inside = os.path.relpath(os.path.realpath(text), os.path.realpath(self._root))
            text = inside
        path = posixpath.normpath(text)
        return None if path.split("/")[0] in ("..", ".") else path


def _meant(name: str, columns: Sequence[str], **alike: float) -> str | None:
    """The column that is meant to be the one of this name."""
    same = (each for each in columns if each.lower() in _SAME.get(name, ()))
    return closest(name, columns, **alike) or next(same, None)
