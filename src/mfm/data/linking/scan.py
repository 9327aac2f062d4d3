"""Find and read all images of a dataset's folder: streamed, in all processors, unchanged files not.

The result lies in the folder as `.scan.parquet`, one row per readable image, and `left_out.csv`,
one line per other file. Snakemake knows of neither, so that a run that stopped on a bad image does
not read all the others again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mfm.data.folders import left_out, listing
from mfm.data.folders.labels import Labels
from mfm.data.folders.left_out import LeftOut
from mfm.data.folders.tree import Counts, Found, Tree, by_split, no_images, survey
from mfm.data.pictures import headers
from mfm.data.pictures.contents import COLUMNS, Place
from mfm.data.pictures.headers import OTHER, Facts, Job, Unread
from mfm.data.pictures.opening import is_deep
from mfm.data.pictures.reading import Reading
from mfm.data.pictures.windows import Scaling
from mfm.files.atomic import replacing
from mfm.processes.pool import stream_in_processes

SCAN = ".scan.parquet"
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
GROUP = pa.field("group", pa.string())  # a column more where images have groups; '' for none
ROWS_AT_ONCE = 16_384
_PLAIN = Reading()
_FEW = 1
Check = Callable[[dict[str, dict[str, int]]], list[str]]


@dataclass(kw_only=True)
class Scan:
    """What a scan found."""

    tree: Tree
    left_out: LeftOut
    last: Path  # the rows of the last scan
    scaling: Scaling  # how files are read; of values of more than 8 bits when it is settled
    is_sound: bool = True  # by the files' names alone
    read: int = 0  # files that had to be read
    unchanged: int = 0  # files taken over from the last scan
    images: Counts = field(default_factory=Counter)  # readable ones, by split and class
    bad: Counts = field(default_factory=Counter)  # the others
    deep: int = 0  # readable ones of more than 8 bits a value
    deep_examples: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # by the files' names, empty classes besides


def scan(
    folder: Path,
    *,
    splits: Sequence[str] = ("train", "val"),
    classes: Sequence[str] | None = None,
    labels: Labels | None = None,
    reading: Reading = _PLAIN,
    check: Check = lambda counts: [],
) -> Scan:
    """Read folder/<split>/<class>/ (at any depth; folder/pretrain/ without classes).

    `classes` are those that there may be, where it isn't the folders that say so; `labels` list the
    images, which then lie at any place below folder/<split>/.

    Rows are in the order of `splits`, then of classes, then of the path's parts, so a row number
    means the same on every machine. Names come first: what is wrong with them, and what `check`
    finds in the number of files of each class by split, are the result's faults. Where there are
    some, the files' headers alone are looked at, so that bad images are told with them, and nothing
    is left.

    Raises UserError where there are no folders of classes.
    """
    with left_out.writing(folder) as left:
        roots = {split: folder / split for split in splits}
        if labels is None:
            tree = survey(roots, left.add, classes=classes, keep=folder)
        else:
            tree = listing.survey(labels, roots, left.add, keep=folder)
        found = Scan(tree=tree, left_out=left, last=folder / SCAN, scaling=Scaling(reading=reading))
        _look(found, check)
        if not found.is_sound:
            return found
        more = [*([GROUP] * tree.has_groups), *(COLUMNS if tree.shards else ())]
        schema = pa.schema([*SCHEMA, *more], reading.of_headers())
        with replacing(folder / SCAN) as temporary, _Writer(temporary, schema) as rows:
            for row in _read(found, is_whole=True):
                rows.add(row)
    return found


def look(
    roots: Mapping[str, Path],
    *,
    labels: Labels | None = None,
    reading: Reading,
    check: Check,
    seconds: float,
) -> Scan | None:
    """What a scan of the splits' folders would find wrong by names, before anything is linked.

    None where the names alone take longer than that.
    """
    try:
        left = LeftOut()
        until = time.monotonic() + seconds
        if labels is None:
            tree = survey(roots, left.add, until=until)
        else:
            tree = listing.survey(labels, roots, left.add, until=until)
    except TimeoutError:
        return None
    found = Scan(tree=tree, left_out=left, last=Path("-"), scaling=Scaling(reading=reading))
    _look(found, check)
    return found


def _look(found: Scan, check: Check) -> None:
    tree = found.tree
    found.faults = [*tree.faults, *check(by_split(tree.counts))]
    found.is_sound = not found.faults and not no_images(tree, tree.counts)
    if not found.is_sound:
        for _ in _read(found, is_whole=False):
            pass


def _read(scan: Scan, *, is_whole: bool) -> Iterator[tuple[object, ...]]:
    """Read every file that isn't as it was; the images' rows, in order."""
    tree, pending = scan.tree, deque[tuple[Found, Facts | None]]()
    roots = {split: str(root) for split, root in tree.roots.items()}

    def jobs() -> Iterator[Job]:
        before = _LastScan(scan.last, list(tree.roots), scan.scaling.reading)
        for found in tree.files():
            facts = None if found.is_loose else before.find(found)
            pending.append((found, facts))
            known = facts and (facts.bytes, facts.mtime_ns)
            yield Job(_place(roots[found.split], found), known, found.is_loose, is_whole)

    count = tree.counts.total() + len(tree.loose)
    title = "read images" if is_whole else "look at headers"
    read = partial(headers.read, reading=scan.scaling.reading)
    for result in stream_in_processes(read, jobs(), count=count, title=title):
        found, facts = pending.popleft()
        if result is None:
            scan.unchanged += 1
            assert facts is not None
            result = facts
        else:
            scan.read += 1
        if not isinstance(result, Unread):
            scan.images[found.split, found.name] += 1
            more: tuple[object, ...] = (found.group,) if tree.has_groups else ()
            if tree.shards:
                at = found.member
                more += (at.shard, at.offset, at.header) if at is not None else ("", 0, 0)
            if is_deep(result.mode):
                scan.deep += 1
                scan.deep_examples += [tree.shown(found.path)] * (scan.deep <= _FEW)
            yield found.split, found.path, found.label, found.name, *result, *more
            continue
        if found.name and tree.listed is not None and result.kind == OTHER:
            result = Unread("not an image", result.reason)
        scan.left_out.add(found.path, result)
        if result.is_bad:
            scan.bad[found.split, found.name] += 1


def _place(root: str, found: Found) -> Place:
    """Where a file is, whose split's folder is `root`."""
    at, member = slice(len(found.split), None), found.member
    if member is not None:
        member = member._replace(shard=f"{root}{member.shard[at]}")
    return Place(f"{root}{found.path[at]}", member)


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

    def __init__(self, path: Path, splits: Sequence[str], reading: Reading) -> None:
        self._splits = splits
        self._reading = reading
        self._rows = self._read(path)
        self._next = next(self._rows, None)

    def find(self, found: Found) -> Facts | None:
        """The facts of a file; the files have to be asked for in the order of the rows."""
        key = self._key(found.path, found.name)
        while self._next is not None and self._next[0] < key:
            self._next = next(self._rows, None)
        if self._next is None or self._next[0] != key:
            return None
        member = found.member
        same = ("", 0, 0) if member is None else (member.shard, member.offset, member.header)
        return self._next[1] if self._next[2] == same else None

    def _key(self, path: str, name: str) -> tuple[int, str, list[str]]:
        parts = path.split("/")
        return self._splits.index(parts[0]) if parts[0] in self._splits else -1, name, parts

    def _read(
        self, path: Path
    ) -> Iterator[tuple[tuple[int, str, list[str]], Facts, tuple[object, ...]]]:
        if not path.exists():
            return
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                if not set(SCHEMA) <= set(schema) or schema.metadata != self._reading.of_headers():
                    return
                names, facts = ["path", "class", *Facts._fields], len(Facts._fields)
                if set(COLUMNS) <= set(schema):
                    names += (each.name for each in COLUMNS)
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names):
                    columns = [batch[name].to_pylist() for name in names]
                    for image, of_class, *row in zip(*columns, strict=True):
                        place = tuple(row[facts:]) or ("", 0, 0)
                        yield self._key(image, of_class), Facts(*row[:facts]), place
        except (OSError, pa.ArrowException):
            return  # damaged: everything is read anew
