"""Shards: tars of a split's images, which come in the order that the same images have in folders.

Headers are read once, in all processors, and kept in the dataset's folder with each tar's size and
time.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfm.data.folders.left_out import is_systems
from mfm.data.folders.tars import ROWS, Index, index, is_name
from mfm.data.pictures.contents import Member
from mfm.data.pictures.formats import is_named_as_image
from mfm.errors import UserError
from mfm.files.atomic import replacing
from mfm.files.lines import few, shown
from mfm.processes.pool import stream_in_processes

NAMES = "classes.txt"  # beside the tars of a split: of classes that are numbers, one a line
_COMPRESSED = (
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".tar.z"),
    *(".tgz", ".tbz", ".tbz2", ".txz", ".tzst"),
)
_FEW = 2**26  # bytes of tars that are not worth several processes
_AT_ONCE = 16_384
_NUMBER = re.compile(r"[0-9]{1,9}")
_DEEP = "^[^/]+/[^/]+/[^/]+/"  # what lies in a folder of a class's folder
_KEPT = b"tars"


class Tar(NamedTuple):
    """One tar as it was when its headers were read."""

    name: str
    bytes: int
    mtime_ns: int


@dataclass(kw_only=True)
class Shards:
    """A split's tars: their images by class, in order."""

    root: Path
    split: str
    tars: Sequence[Tar]
    rows: pa.Table  # ROWS and 'tar', its number; `_place` makes 'path' of the name
    has_samples: bool
    has_classes: bool
    left: Sequence[str]  # what an operating system left in the tars
    faults: list[str]

    @property
    def numbers(self) -> list[str]:
        """The classes of samples, where all of them are numbers."""
        found = self.rows["class"].unique().to_pylist()
        wanted = self.has_samples and all(_NUMBER.fullmatch(name) for name in found)
        return found if wanted else []

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in order."""
        return sorted(set(self.rows["class"].unique().to_pylist()) - {""})

    def class_names(self) -> list[str]:
        """The same; raises UserError where there are none and should be."""
        found = self.classes
        if self.has_classes and not found and not self.faults:
            raise UserError(
                f"the tars of {shown(self.root.resolve())} say no classes: put images into them as "
                "<class>/<image>, or beside each KEY.jpg a KEY.cls with its class"
            )
        below = pc.match_substring_regex(self.rows["path"], _DEEP)
        if len(found) == 1 and not self.has_samples and pc.all(below).as_py():
            raise UserError(
                f"all that the tars of {shown(self.root.resolve())} hold lies in one folder, "
                f"'{shown(found[0])}', which would be the only class: write them from inside of it "
                f"(tar cf 0.tar -C {shown(found[0])} .)"
            )
        return found

    def counts(self) -> Counter[tuple[str, str]]:
        """How many files each class has, by split and class."""
        counted = self.rows["class"].value_counts()
        names, numbers = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        return Counter(
            {
                (self.split, name): number
                for name, number in zip(names, numbers, strict=True)
                if name or not self.has_classes
            }
        )

    def beside(self) -> tuple[list[str], list[str]]:
        """Other files of the folder, and what an operating system left there or in a tar."""
        known = {tar.name for tar in self.tars} | ({NAMES} if self.has_samples else set())
        others = sorted(set(os.listdir(self.root)) - known)
        systems = [name for name in others if is_systems(name)]
        return [name for name in others if not is_systems(name)], [*systems, *self.left]

    def shown(self, path: str, row: int | None = None) -> str:
        """For people: a path, which begins with the split, and which tar has it."""
        row = pc.index(self.rows["path"], path).as_py() if row is None else row
        below = shown(path.partition("/")[2])
        if row < 0:  # a class
            return f"{below} in the tars of {shown(self.root.resolve())}"
        tar = self.tars[self.rows["tar"][row].as_py()]
        return f"{below} in {shown(Path(self.root.resolve(), tar.name))}"

    def files(self) -> Iterator[tuple[str, str, Member]]:
        """Path, class and place of every file, in order; the class of a loose one is ''.

        The shard's name begins with the split, as the path does.
        """
        for batch in self.rows.to_batches(_AT_ONCE):
            names = ("path", "class", "tar", "offset", "bytes", "header")
            for path, name, number, offset, size, header in zip(
                *(batch[each].to_pylist() for each in names), strict=True
            ):
                tar = self.tars[number]
                member = Member(f"{self.split}/{tar.name}", offset, size, header, tar.mtime_ns)
                yield path, name, member


def tars_in(folder: Path) -> list[str]:
    """Names of the tars in a folder whose images lie in them; none where they lie in the folder.

    Raises UserError for tars beside images or folders, and for tars that are compressed.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not is_systems(name))
    except OSError:
        return []  # which is told when the folder is walked through
    tars = [name for name in names if name.lower().endswith(".tar")]
    tars = [name for name in tars if not (folder / name).is_dir()]
    packed = [name for name in names if name.lower().endswith(_COMPRESSED)]
    if not tars and not packed:
        return []
    others = [
        f"{shown(name)}{'/' * (folder / name).is_dir()}"
        for name in names
        if (folder / name).is_dir() or is_named_as_image(name)
    ]
    here = shown(folder.resolve())
    if tars and others:
        raise UserError(
            f"{here} holds tars ({few([shown(name) for name in tars])}) and folders or images "
            f"({few(others)}), and its images are in the one or in the other: move one kind away"
        )
    if packed and not others:
        raise UserError(
            f"{here} holds compressed tars, of which no image can be read alone: "
            f"{few([shown(name) for name in packed])}; unpack each to a plain .tar (images are "
            "compressed already)"
        )
    return tars


def read(
    roots: Mapping[str, Path],
    *,
    unlabelled: str,
    keep: Path | None = None,
    until: float = math.inf,
) -> dict[str, Shards]:
    """The shards of the splits whose folders hold tars, with all that is wrong with them.

    Of the split `unlabelled`, classes don't count. What is read is kept in the folder `keep`, and
    not read again while a tar's size and time are the same. Raises UserError as `tars_in` does, and
    TimeoutError where it takes longer than `until` (`time.monotonic`).
    """
    found = {}
    for split, root in roots.items():
        names = tars_in(root)
        if names:
            look = partial(index, has_classes=split != unlabelled, until=until)
            kept = _Kept(None if keep is None else keep / f".shards.{split}.parquet")
            found[split] = _read(root, split, names, look, kept)
    _name_numbers(list(found.values()))
    for shards in found.values():
        _place(shards)
    pa.default_memory_pool().release_unused()  # half a gigabyte for a million images
    return found


def _read(
    root: Path, split: str, names: Sequence[str], look: partial[Index], kept: _Kept
) -> Shards:
    tars = [_status(root, name) for name in names]
    fresh = [f"{root}{os.sep}{tar.name}" for tar in tars if tar not in kept.indices]
    if sum(tar.bytes for tar in tars if tar not in kept.indices) > _FEW:
        title = f"read headers of {split}'s tars"
        results = stream_in_processes(look, fresh, count=len(fresh), title=title, chunk=1)
    else:
        results = map(look, fresh)
    indices = [kept.indices[tar] if tar in kept.indices else next(results) for tar in tars]
    if fresh:
        kept.write(dict(zip(tars, indices, strict=True)))
    faults = [fault for each in indices for fault in each.faults]
    kinds = {
        each.has_samples: tar.name for tar, each in zip(tars, indices, strict=True) if each.rows
    }
    if len(kinds) > 1:
        faults.append(
            f"{shown(root.resolve())} has samples with their classes in files .cls in "
            f"{shown(kinds[True])} and none in {shown(kinds[False])}: write all tars in one way"
        )
    numbers = [pa.repeat(pa.scalar(n, pa.int32()), len(e.rows)) for n, e in enumerate(indices)]
    rows = pa.concat_tables([each.rows for each in indices])
    return Shards(
        root=root,
        split=split,
        tars=tars,
        rows=rows.append_column("tar", pa.chunked_array(numbers, pa.int32())),
        has_samples=True in kinds,
        has_classes=bool(look.keywords["has_classes"]),
        left=[path for each in indices for path in each.left],
        faults=faults,
    )


def _status(root: Path, name: str) -> Tar:
    try:
        found = os.stat(root / name)
    except OSError as error:
        path = shown(Path(root.resolve(), name))
        raise UserError(f"{path} can't be read: {error.strerror}; mend or remove it") from None
    return Tar(name, found.st_size, found.st_mtime_ns)


class _Kept:
    """What was read of tars before, in a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.indices: dict[Tar, Index] = {}
        if path is None or not path.exists():
            return
        try:
            table, start = pq.read_table(path), 0
            for tar, rows, has_samples, left in json.loads(table.schema.metadata[_KEPT]):
                part = table.slice(start, rows).replace_schema_metadata()
                self.indices[Tar(*tar)] = Index(part, has_samples, left, [])
                start += rows
        except (OSError, pa.ArrowException, ValueError, LookupError, TypeError):
            self.indices = {}  # damaged, or of another version: everything is read anew

    def write(self, indices: Mapping[Tar, Index]) -> None:
        """Keep what is known of tars without a fault."""
        if self._path is None:
            return
        sound = {tar: each for tar, each in indices.items() if not each.faults}
        said = [[tar, len(each.rows), each.has_samples, each.left] for tar, each in sound.items()]
        table = pa.concat_tables([ROWS.empty_table(), *(each.rows for each in sound.values())])
        with replacing(self._path) as temporary:
            metadata = {_KEPT: json.dumps(said).encode()}
            pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def _name_numbers(found: Sequence[Shards]) -> None:
    """Give classes that are numbers the names that a list has, or as many digits each."""
    numbered = {shards.split: shards.numbers for shards in found if shards.numbers}
    listed = [shards for shards in found if (shards.root / NAMES).is_file()]
    bare = [
        numbers for split, numbers in numbered.items() if split not in {e.split for e in listed}
    ]
    digits = max((len(str(int(text))) for numbers in bare for text in numbers), default=0)
    for shards in found:
        numbers = numbered.get(shards.split, [])
        if not numbers:
            continue
        names = {text: f"{int(text):0{digits}d}" for text in numbers}
        if shards in listed:
            names = _listed(shards, numbers)
        renamed = pa.array(names.values(), pa.string()).take(
            pc.index_in(shards.rows["class"], value_set=pa.array(names.keys(), pa.string()))
        )
        shards.rows = shards.rows.set_column(0, "class", renamed)


def _listed(shards: Shards, numbers: Sequence[str]) -> dict[str, str]:
    """The name of each number, by the list beside the tars; the number itself of one without."""
    path = shards.root / NAMES
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    here = shown(path.resolve())
    most = max(int(text) for text in numbers)
    if most >= len(names):
        shards.faults.append(
            f"{here} names {len(names)} classes, and there is a class {most}, counted from 0; give "
            "it a line for each"
        )
    wrong = [name for name in names if not is_name(name)]
    wrong += [name for name, number in Counter(names).items() if number > 1]
    if wrong:
        shards.faults.append(
            f"{here}: {few([shown(name) for name in wrong])} can't be, or is twice, the name of a "
            "class"
        )
    return {text: names[int(text)] if int(text) < len(names) else text for text in numbers}


def _place(shards: Shards) -> None:
    """Put the rows into the order of the paths' parts, as folders have them."""
    rows = shards.rows
    paths = pc.binary_join_element_wise(shards.split, rows["class"], rows["name"], "/")
    alone = pc.equal(rows["class"], "")
    if pc.any(alone).as_py():
        of_split = pc.binary_join_element_wise(shards.split, rows["name"], "/")
        paths = pc.if_else(alone, of_split, paths)
    rows = rows.drop(["name"]).append_column("path", paths)
    # Nothing is less than what stands between a path's parts.
    order = pc.sort_indices(pc.replace_substring(paths, "/", "\0"))
    shards.rows = rows.take(order)
    paths = shards.rows["path"]
    twice = pc.indices_nonzero(pc.equal(paths[1:], paths[:-1])).to_pylist()
    if twice:
        told = [f"{shards.shown(paths[row].as_py(), row)}" for row in twice]
        shards.faults.append(
            f"{few(told)}: there is another file of that name in the split's tars; give each a "
            "name of its own"
        )
