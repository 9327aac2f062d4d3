"""Index of one tar of images: what it holds and where, by its headers alone.

A tarred class tree holds <class>/<image>, at any depth. WebDataset's samples are files of one key,
which is a name up to the first dot of its last part: an image, KEY.cls with its class, and others
that don't count.
"""

from __future__ import annotations

import math
import os
import re
import tarfile
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from mfm.data.folders.left_out import is_systems
from mfm.data.pictures.contents import HEADER, checksum
from mfm.data.pictures.formats import is_named_as_image
from mfm.files.lines import few, shown

ROWS = pa.schema(
    [
        ("class", pa.string()),  # '' of a file of no class
        ("name", pa.string()),  # below the class's folder
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("header", pa.uint32()),
    ]
)
_META = re.compile(r"__[^/]*__($|/)")  # what WebDataset keeps for itself
_CLASS, _ARRAY = "cls", "npy"
_LONGEST = 1000  # bytes of a class's name
_BETWEEN = 1000  # members, looks at the clock


class Index(NamedTuple):
    """What one tar holds."""

    rows: pa.Table  # as ROWS, in the tar's order
    has_samples: bool  # so that all are
    left: list[str]  # what an operating system left in it
    faults: list[str]


class _Row(NamedTuple):
    name: str
    offset: int
    bytes: int
    header: int


def index(path: str, *, has_classes: bool = True, until: float = math.inf) -> Index:
    """Look through a tar's headers; what is wrong with it is in the result, by name.

    Without classes, all files count, by their names.

    Raises OSError, and TimeoutError where it takes longer than `until` (`time.monotonic`).
    """
    found = _Found(has_classes)
    try:
        with (
            open(path, "rb") as file,
            tarfile.open(
                fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape"
            ) as tar,
        ):
            number = 0
            while (member := tar.next()) is not None:
                # A million of them would fill the memory; the library's types don't know the list.
                tar.members.clear()  # type: ignore[attr-defined]
                found.add(member, file.fileno())
                number += 1
                if number % _BETWEEN == 0 and time.monotonic() > until:
                    raise TimeoutError
            # The standard library takes a tar that ends early, or a damaged header, for its end.
            if os.pread(file.fileno(), HEADER, tar.offset) != bytes(HEADER):
                found.faults[f" is cut off or damaged behind its {number:,} files"] = []
    except tarfile.TarError as error:
        found.faults[f" is cut off, damaged, compressed, or no tar: {error}"] = []
        size = os.path.getsize(path)
        found.rows = [row for row in found.rows if row.offset + row.bytes <= size]
    columns = zip(*((name, *row) for name, row in found.classed()), strict=True)
    arrays = [pa.array(each, field.type) for each, field in zip(columns, ROWS, strict=False)]
    return Index(
        rows=pa.table(arrays, schema=ROWS) if arrays else ROWS.empty_table(),
        has_samples=bool(found.classes),
        left=list(found.left),
        faults=[
            f"{shown(path)}{f': {few(names)}' if names else ''}{what}"
            for what, names in found.faults.items()
        ],
    )


class _Found:
    """The members of a tar."""

    def __init__(self, has_classes: bool) -> None:
        self._has_classes = has_classes
        self.rows: list[_Row] = []
        self.classes: dict[str, str] = {}  # by key
        self.left: dict[str, None] = {}
        self.faults: defaultdict[str, list[str]] = defaultdict(list)  # names by what is wrong

    def add(self, member: tarfile.TarInfo, handle: int) -> None:
        """One more member."""
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        name = "/".join(parts)
        if member.isdir():
            return
        for depth, part in enumerate(parts, 1):
            if part != ".." and is_systems(part):
                self.left["/".join(parts[:depth]) + "/" * (depth < len(parts))] = None
                return
        fault = _fault(member, parts)
        if fault:
            self.faults[fault].append(shown(name))
            return
        key, ending = key_of(name)
        is_class = self._has_classes and ending == _CLASS and not _META.match(name)
        if is_class and member.size <= _LONGEST:
            text = os.pread(handle, member.size, member.offset_data)
            self._classify(key, text.decode(errors="replace").strip(), name)
            return
        header = checksum(os.pread(handle, HEADER, member.offset_data - HEADER))
        self.rows.append(_Row(name, member.offset_data, member.size, header))

    def _classify(self, key: str, text: str, name: str) -> None:
        if key in self.classes:
            self.faults[" is there for the second time"].append(shown(name))
        if not is_name(text):
            self.faults[" holds no name of a class (one line, no '/', no '.' at its start)"].append(
                shown(name)
            )
        self.classes[key] = text

    def classed(self) -> Iterator[tuple[str, _Row]]:
        """The class of each image, or of each file."""
        if self.classes:
            yield from self._samples()
            return
        for row in self.rows:
            folder, slash, rest = row.name.partition("/")
            has_class = self._has_classes and slash
            yield (folder, row._replace(name=rest)) if has_class else ("", row)

    def _samples(self) -> Iterator[tuple[str, _Row]]:
        """The class and the image of each sample, in the tar's order."""
        images: dict[str, _Row] = {}
        for row in self.rows:
            key, ending = key_of(row.name)
            if (
                _META.match(row.name)
                or "." in ending
                or not is_named_as_image(f"x.{ending}", arrays=True)
            ):
                continue
            if key not in self.classes:
                self.faults[
                    f" without a file .{_CLASS} of the same name, which says the class"
                ].append(shown(row.name))
            elif key not in images or key_of(images[key].name)[1] == _ARRAY:
                images[key] = row
            elif ending != _ARRAY:
                self.faults[f" is one of two images of {shown(key)}.{_CLASS}"].append(
                    shown(row.name)
                )
        for key in self.classes.keys() - images.keys():
            self.faults[f".{_CLASS} without an image of the same name"].append(shown(key))
        for key, row in images.items():
            yield self.classes[key], row


def is_name(text: str) -> bool:
    """Whether a text can be a class's name, which is that of a folder."""
    wrong = any(not c.isprintable() or c in "/\ufffd" for c in text)
    return bool(text) and not wrong and not is_systems(text)


def key_of(name: str) -> tuple[str, str]:
    """A sample's key and what the file is in it, as WebDataset has it; '' of a file without."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return (f"{folder}{slash}{stem}", ending.lower()) if stem else (name, "")


def _fault(member: tarfile.TarInfo, parts: list[str]) -> str:
    """What keeps a member from being read by its place; '' for nothing."""
    if member.issym() or member.islnk():
        return (
            " is a link: write the tar with the files themselves (GNU tar: --dereference, "
            "--hard-dereference), or with `mfm shards`"
        )
    if not member.isreg() or member.issparse():
        return " is no plain file (sparse, a device or a pipe): write the tar without"
    if ".." in parts or not parts:
        return " has a name that leads out of the tar: rename it"
    if "\0" in member.name:
        return " has a name with a zero byte: rename it"
    try:
        member.name.encode()
    except UnicodeEncodeError:
        return " has a name that isn't UTF-8: rename it"
    return ""
