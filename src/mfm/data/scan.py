"""Find and read all images of a dataset's folder: streamed, in all processors, unchanged files not.

The result lies in the folder as `.scan.parquet`, one row per readable image, and `left_out.csv`,
one line per other file. Snakemake knows of neither, so that a run that stopped on a bad image does
not read all the others again.
"""

from __future__ import annotations

import csv
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mfm.data import headers
from mfm.data.headers import Facts, Unreadable
from mfm.errors import UserError
from mfm.files.atomic import replacing
from mfm.processes.pool import stream_in_processes

SCAN = ".scan.parquet"
LEFT_OUT = "left_out.csv"
UNLABELLED = "pretrain"  # the split of images at any depth, without class folders
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("path", pa.string()),  # below the dataset's folder
        ("label", pa.int32()),  # -1 for unlabelled images
        ("class", pa.string()),  # '' for unlabelled images
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("mode", pa.string()),
        ("format", pa.string()),
        ("content", pa.uint64()),
        ("mtime_ns", pa.int64()),
    ]
)
ROWS_AT_ONCE = 16_384
_SHOWN = 5
_OTHER = ("not an image", "ignored: its name is not that of an image")


class Found(NamedTuple):
    """One file of the folder, before it is read."""

    split: str
    path: str  # below the dataset's folder, with '/'
    label: int
    name: str  # of the class

    @property
    def is_image(self) -> bool:
        """Whether the file's name is that of an image."""
        return self.path.lower().endswith(headers.EXTENSIONS)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a scan found."""

    read: int  # files that had to be read
    unchanged: int  # files taken over from the last scan
    bad: int  # unreadable files with an image's extension
    examples: tuple[str, ...]  # the first of them, with their reasons


def scan(folder: Path, *, splits: Sequence[str] = ("train", "val")) -> Scan:
    """Read folder/<split>/<class>/ (at any depth; folder/pretrain/ without classes) and check it.

    Rows are in the order of `splits`, then of the path's parts, so a row number means the same on
    every machine. Raises UserError for a missing folder, an empty class, classes that differ
    between train and val, and names that aren't UTF-8.
    """
    classes = _classes(folder)
    pending: deque[tuple[Found, Facts | None]] = deque()
    number, unchanged, bad = 0, 0, 0
    examples: list[str] = []

    def jobs() -> Iterator[tuple[str, headers.Known | None]]:
        before = _LastScan(folder / SCAN, splits)
        for found in _files(folder, splits, classes):
            if found.is_image:
                facts = before.find(found.path)
                pending.append((found, facts))
                yield f"{folder}/{found.path}", facts and (facts.bytes, facts.mtime_ns)

    with (
        replacing(folder / LEFT_OUT) as left_out,
        open(left_out, "w", encoding="utf-8", newline="") as text,
    ):
        lines = csv.writer(text)
        lines.writerow(["path", "kind", "reason"])
        counts: Counter[tuple[str, str]] = Counter()
        for found in _files(folder, splits, classes):
            if found.is_image:
                counts[found.split, found.name] += 1
            else:
                lines.writerow([found.path, *_OTHER])
        _check_counts(folder, splits, classes, counts)
        with replacing(folder / SCAN) as temporary, _Writer(temporary, SCHEMA) as rows:
            for result in stream_in_processes(
                headers.read, jobs(), count=counts.total(), title="read images"
            ):
                found, facts = pending.popleft()
                if isinstance(result, Unreadable):
                    bad += 1
                    lines.writerow([found.path, result.kind, result.reason])
                    if len(examples) < _SHOWN:
                        examples.append(f"{folder / found.path} ({result.reason})")
                    continue
                number += 1
                if result is None:
                    unchanged += 1
                    assert facts is not None
                    result = facts
                rows.add((found.split, found.path, found.label, found.name, *result))
    return Scan(
        read=number - unchanged + bad, unchanged=unchanged, bad=bad, examples=tuple(examples)
    )


class _Writer:
    """A parquet file of many rows, of which few are in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = pq.ParquetWriter(path, schema, compression="zstd")
        self._rows: list[tuple[object, ...]] = []

    def __enter__(self) -> _Writer:
        return self

    def add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True)
        self._file.write_batch(
            pa.record_batch(
                [pa.array(c, field.type) for c, field in zip(columns, self._schema, strict=True)],
                schema=self._schema,
            )
        )
        self._rows.clear()

    def __exit__(self, kind: object, *_: object) -> None:
        if self._rows and kind is None:
            self._flush()
        self._file.close()


class _LastScan:
    """The facts that the last scan read, asked for in its own order."""

    def __init__(self, path: Path, splits: Sequence[str]) -> None:
        self._splits = splits
        self._rows = self._read(path)
        self._next = next(self._rows, None)

    def find(self, path: str) -> Facts | None:
        """The facts of a file; the files have to be asked for in the order of the rows."""
        key = self._key(path)
        while self._next is not None and self._next[0] < key:
            self._next = next(self._rows, None)
        if self._next is not None and self._next[0] == key:
            return self._next[1]
        return None

    def _key(self, path: str) -> tuple[int, list[str]]:
        parts = path.split("/")
        return self._splits.index(parts[0]) if parts[0] in self._splits else -1, parts

    def _read(self, path: Path) -> Iterator[tuple[tuple[int, list[str]], Facts]]:
        if not path.exists():
            return
        try:
            with pq.ParquetFile(path) as file:
                if not file.schema_arrow.equals(SCHEMA):
                    return
                names = ["path", *Facts._fields]
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names):
                    columns = [batch[name].to_pylist() for name in names]
                    for row in zip(*columns, strict=True):
                        yield self._key(row[0]), Facts(*row[1:])
        except (OSError, pa.ArrowException):
            return  # damaged: everything is read anew


def _classes(folder: Path) -> list[str]:
    names: dict[str, list[str]] = {}
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise UserError(f"{folder / split} is missing: the dataset needs train/ and val/")
        names[split] = sorted(
            entry.name
            for entry in os.scandir(folder / split)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not names[split]:
            raise UserError(
                f"{folder / split} has no class folders; put its images in {split}/<class>/<image>"
            )
    for here, there in (("val", "train"), ("train", "val")):
        extra = sorted(set(names[here]) - set(names[there]))
        if extra:
            raise UserError(
                f"{here} has class{'es' * (len(extra) > 1)} {', '.join(extra[:_SHOWN])}"
                f"{' ...' * (len(extra) > _SHOWN)} that {there} lacks ({folder / there}); "
                "both need the same class folders"
            )
    return names["train"]


def _check_counts(
    folder: Path, splits: Sequence[str], classes: list[str], counts: Counter[tuple[str, str]]
) -> None:
    suffixes = ", ".join(headers.EXTENSIONS)
    for split, _, name, start in _starts(splits, classes):
        if not counts[split, name] and split == UNLABELLED:
            raise UserError(f"{folder / start} has no images ({suffixes}) at any depth")
        if not counts[split, name]:
            raise UserError(
                f"class folder {folder / start} has no images ({suffixes}); add some or remove it "
                "from train and val"
            )


def _starts(splits: Sequence[str], classes: list[str]) -> Iterator[tuple[str, int, str, str]]:
    """(split, label, class, folder) of all that there is to walk through, in order."""
    for split in splits:
        if split == UNLABELLED:
            yield split, -1, "", split
        else:
            for label, name in enumerate(classes):
                yield split, label, name, f"{split}/{name}"


def _files(folder: Path, splits: Sequence[str], classes: list[str]) -> Iterator[Found]:
    for split, label, name, start in _starts(splits, classes):
        for path in _walk(folder, start, ()):
            yield Found(split, path, label, name)


def _walk(folder: Path, start: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Files below folder/start that aren't hidden, in the order of their paths' parts.

    Links are followed, as by torchvision's ImageFolder. One folder's names are in memory at once.
    """
    status = os.stat(folder / start)
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise UserError(f"{folder / start} lies in itself by a link; remove that link")
    try:
        with os.scandir(folder / start) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise UserError(f"{folder / start} can't be read: {error.strerror}") from None
    for name, is_folder in names:
        path = f"{start}/{name}"
        if is_folder:
            yield from _walk(folder, path, (*above, here))
        elif not name.startswith("."):
            try:
                path.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(folder / path).decode(errors="backslashreplace")
                raise UserError(f"{shown}: the file's name is not UTF-8; rename it") from None
            yield path
