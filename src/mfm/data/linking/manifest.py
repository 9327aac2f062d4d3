"""The manifest: one row per image, read once from the files' headers.

Columns: split ('train', 'val', 'holdout', or 'pretrain' for unlabelled images), path (below the
dataset's folder), label, class, width, height, bytes, mode and format (Pillow's names), content (a
hash of the file), group where a file of labels has groups ('' of an image that is its own), and
where images lie in tars (`mfm.data.pictures.contents`) shard, offset and header, of which
no digest knows. Sorted by folder (train, val, pretrain), class and path, so a row number means the
same on every machine. Where the labels are another dataset's, the file says which classes that has.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfm.data.folders import left_out
from mfm.data.folders.labels import Labels
from mfm.data.folders.tree import by_split, no_images
from mfm.data.linking.division import Division, Rows
from mfm.data.linking.scan import GROUP, ROWS_AT_ONCE, SCAN, SCHEMA, Check, Scan, look, scan
from mfm.data.pictures import windows
from mfm.data.pictures.contents import COLUMNS, Members, Place
from mfm.data.pictures.headers import ARRAY, OTHER
from mfm.data.pictures.reading import Reading, of_manifest
from mfm.data.settings import MANIFEST, images_file
from mfm.errors import UserError, several
from mfm.files.atomic import replacing, write_text
from mfm.files.lines import shown
from mfm.numerics.draws import Ints

NAME = MANIFEST
_PLAIN = Reading()
_WHOLE = Division()
_CLASSES = b"classes"
_DIGESTED = ("path", "label", "class", "width", "height", "bytes", "content", GROUP.name)
_SECONDS = 10.0  # for a look at names before any job


@dataclass(frozen=True)
class Images:
    """Some images of a manifest, in manifest order."""

    root: Path
    classes: tuple[str, ...]
    paths: pa.Array  # below root
    rows: Ints  # [n] row in the manifest: the index that random draws are keyed by
    labels: Ints  # [n]
    widths: Ints  # [n] pixels
    heights: Ints  # [n] pixels
    reading: Reading = _PLAIN
    groups: Ints | None = None  # [n] numbers, equal for images that belong together; None: none do
    members: Members | None = None  # where shards have them; None: each is a file

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, position: int) -> Path:
        """The file of image `position`; of one in a shard, where it would be without."""
        return Path(self.place(position).path)

    def place(self, position: int) -> Place:
        """Where the content of image `position` is."""
        # No Path: for small images, building one costs as much as decoding.
        path = f"{self.root}{os.sep}{self.paths[position]}"
        return Place(path, None if self.members is None else self.members[position])

    def take(self, positions: Ints) -> Images:
        """The images at `positions`."""
        return Images(
            self.root,
            self.classes,
            self.paths.take(_array(positions)),
            self.rows[positions],
            self.labels[positions],
            self.widths[positions],
            self.heights[positions],
            self.reading,
            None if self.groups is None else self.groups[positions],
            None if self.members is None else self.members.take(positions),
        )


def write(
    folder: Path,
    *,
    splits: Sequence[str] = ("train", "val"),
    classes: Sequence[str] | None = None,
    labels: Labels | None = None,
    division: Division = _WHOLE,
    reading: Reading = _PLAIN,
    check: Check = lambda counts: [],
    check_rows: Callable[[pa.Table], None] = lambda rows: None,
) -> Scan:
    """Read all images of a dataset's folder (see `mfm.data.linking.scan`) and write its manifest.

    And beside it what says of each split which images it has (`mfm.data.settings.images_file`).
    `classes` are another dataset's, of which the folder may have images of some alone; `labels`
    list the images, where it isn't folders of classes that do.

    Raises UserError as `scan` does, for unreadable images unless they're skipped (named, with their
    number), for classes that have no others, for a division that leaves a class nothing, for what
    `check` finds in the number of images of each class by split, and, of a folder with a val of its
    own, as `check_rows` does, which is given each image's split before the holdout, label, content,
    and for pictures of more than 8 bits of which nothing is said (`mfm.data.pictures.windows`).
    """

    checks = partial(division.faults, check=check)
    found = scan(
        folder, splits=splits, classes=classes, labels=labels, reading=reading, check=checks
    )
    faults = _faults(found, listed=f" (all of them: {folder / left_out.NAME})")
    faults = faults or checks(by_split(found.images))
    if faults:
        raise several(faults)
    scanned = folder / SCAN
    groups = [GROUP] if found.tree.has_groups else []
    names = [*("split", "label", "class", "content"), *(each.name for each in groups)]
    members = [*COLUMNS] * bool(found.tree.shards)
    few = pq.read_table(scanned, columns=names)
    val, held_out = division.of(few)
    if division.val_fraction is None:
        check_rows(few)
    # A touched file is the same image.
    schema = pa.schema([*(each for each in SCHEMA if each.name != "mtime_ns"), *groups, *members])
    faults = check(_divided(few, val, held_out)) if groups else []
    if faults:
        raise several(faults)
    if found.deep:
        names = ["split", "path", "mode"]
        names += ["bytes", "mtime_ns", *(each.name for each in COLUMNS)] * bool(members)
        kept = pq.read_table(scanned, columns=names)
        split = _split(kept["split"].combine_chunks(), val, held_out)
        found.scaling = windows.settle(reading, kept.set_column(0, "split", split), folder)
    metadata = found.scaling.reading.metadata()
    if classes is not None:
        metadata[_CLASSES] = json.dumps(list(classes)).encode()
    schema = schema.with_metadata(metadata or None)
    with (
        replacing(folder / NAME) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as rows,
        pq.ParquetFile(scanned) as file,
    ):
        start = 0
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=schema.names):
            here = slice(start, start + len(batch))
            split = _split(batch["split"], val[here], held_out[here])
            batch = batch.set_column(0, "split", split)
            rows.write_batch(batch.replace_schema_metadata(schema.metadata))
            start += len(batch)
    _write_images(folder / NAME)
    return found


def _split(split: pa.Array, val: Rows, held_out: Rows) -> pa.Array:
    """The column split of rows of which some are taken for val, and some for the holdout."""
    return pc.if_else(pa.array(val), "val", pc.if_else(pa.array(held_out), "holdout", split))


def _divided(rows: pa.Table, val: Rows, held_out: Rows) -> dict[str, dict[str, int]]:
    """How many images of each class a split really has: whole groups are more, or fewer."""
    split = _split(rows["split"].combine_chunks(), val, held_out)
    counts = pa.table({"split": split, "class": rows["class"]}).group_by(["split", "class"])
    found: dict[str, dict[str, int]] = {}
    for row in counts.aggregate([([], "count_all")]).to_pylist():
        found.setdefault(row["split"], {})[row["class"]] = row["count_all"]
    return found


def foresee(
    roots: Mapping[str, Path],
    *,
    labels: Labels | None = None,
    division: Division = _WHOLE,
    reading: Reading = _PLAIN,
    check: Check,
) -> None:
    """Raise UserError as `write` would, where the names of the splits' files show that it would.

    Where there are too many of them to look at in a few seconds, nothing is said.
    """
    checks = partial(division.faults, check=check)
    found = look(roots, labels=labels, reading=reading, check=checks, seconds=_SECONDS)
    if found is not None and not found.is_sound:
        raise several(_faults(found))


def _faults(found: Scan, *, listed: str = "") -> list[str]:
    """All that a scan found wrong, but the numbers of readable images."""
    readable, reading = found.images.total(), found.scaling.reading
    return [
        *found.faults,
        *_bad_images(found, reading.on_bad_image, listed),
        *windows.fault(reading, found.deep, of=readable, examples=found.deep_examples),
        *no_images(found.tree, found.images + found.bad, hint=_of_arrays(found)),
    ]


def _of_arrays(found: Scan) -> str:
    """What to say where files of arrays were left out, and nothing says that they are images."""
    others = found.left_out.kinds.get(OTHER)
    return f" ({ARRAY})" if others is not None and ARRAY in others.reasons else ""


def _bad_images(found: Scan, on_bad_image: Literal["error", "skip"], listed: str) -> list[str]:
    """Faults of images that can't be read: all of them, or those whose class has no others."""
    if on_bad_image == "error":
        number, examples = found.left_out.bad_images(found.tree.shown)
        if not number:
            return []
        return [
            f"{number} unreadable image{'s' * (number > 1)}: {examples}{listed}; repair or remove "
            f"{'them' if number > 1 else 'it'}, or set dataset.on_bad_image to 'skip'"
        ]
    return [
        f"all images of {shown(f'{split}/{name}')} are unreadable{listed}; repair some or remove "
        f"{'their lines' if found.tree.listed else 'the folder'}"
        for (split, name), number in sorted(found.bad.items())
        if number and not found.images[split, name]
    ]


def load(path: Path, split: str) -> Images:
    """The images of one split. The manifest lies in the dataset's folder.

    `labels` are -1 in the split of unlabelled images.
    """
    columns = ["split", "path", "label", "class", "width", "height"]
    table = _read(path, [*columns, "bytes", GROUP.name, *(each.name for each in COLUMNS)])
    reading = of_manifest(table.schema.metadata)
    selected = np.flatnonzero(_is(table["split"], split))
    if not len(selected):
        raise UserError(f"{path} has no images of split '{split}'")
    part = table.take(_array(selected))
    return Images(
        root=path.parent,
        classes=tuple(_classes(table)),
        paths=part["path"].combine_chunks(),
        rows=selected.astype(np.int64),
        labels=_numbers(part["label"]),
        widths=_numbers(part["width"]),
        heights=_numbers(part["height"]),
        reading=reading,
        groups=_groups(part[GROUP.name]) if GROUP.name in part.column_names else None,
        members=_members(path.parent, part),
    )


def _groups(column: pa.ChunkedArray) -> Ints:
    """The number of each row's group; one of its own for an image without."""
    found = column.combine_chunks().dictionary_encode()
    texts = found.dictionary.to_pylist()
    numbers = np.from_dlpack(found.indices).astype(np.int64)
    if "" in texts:
        alone = np.flatnonzero(numbers == texts.index(""))
        numbers[alone] = len(texts) + np.arange(len(alone))
    return numbers


def _members(root: Path, part: pa.Table) -> Members | None:
    """Where shards have a split's images; all are in shards, or none."""
    if COLUMNS[0].name not in part.column_names:
        return None
    found = part["shard"].combine_chunks().dictionary_encode()
    names = found.dictionary.to_pylist()
    if "" in names:
        return None
    return Members(
        shards=tuple(f"{root}{os.sep}{name}" for name in names),
        numbers=np.from_dlpack(found.indices).astype(np.int64),
        offsets=_numbers(part["offset"]),
        bytes=_numbers(part["bytes"]),
        headers=_numbers(part["header"]),
        since=time.time_ns(),
    )


def _classes(table: pa.Table) -> list[str]:
    said = (table.schema.metadata or {}).get(_CLASSES)
    if said is not None:
        return list(json.loads(said))
    labels, first = np.unique(_numbers(table["label"]), return_index=True)
    return [table["class"][int(row)].as_py() for row in first[labels >= 0]]


# A training of seconds reads a manifest, too. pyarrow's `read_table`, `array`, `to_numpy`,
# `group_by` and its comparison with a text import pandas, half a second with what comes along.
def _read(path: Path, columns: list[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=columns)


def _array(values: Ints) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _is(column: pa.ChunkedArray, text: str) -> npt.NDArray[np.bool_]:
    """Where a column of few different texts has this one."""
    found = column.combine_chunks().dictionary_encode()
    texts = found.dictionary.to_pylist()
    if text not in texts:
        return np.zeros(len(column), bool)
    same: npt.NDArray[np.bool_] = np.from_dlpack(found.indices) == texts.index(text)
    return same


def _numbers(column: pa.ChunkedArray) -> Ints:
    return np.from_dlpack(column.combine_chunks()).astype(np.int64)


def count(path: Path, split: str) -> int:
    """Number of images of a split."""
    table = _read(path, ["split"])
    return int(_is(table["split"], split).sum())


def _write_images(path: Path) -> None:
    """The file of each split of a manifest; none of a split that it doesn't have."""
    for old in path.parent.glob("images.*.json"):
        old.unlink()
    for split, digest in digests(path).items():
        said = {"split": split, "images": count(path, split), "sha256": digest}
        write_text(images_file(path, split), json.dumps(said, indent=2) + "\n")


def check_images(path: Path, split: str) -> Path:
    """The split's file, if it is of the images in the manifest; raises UserError if not."""
    file = images_file(path, split)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError):
        said = None
    if said is None or digests(path).get(split) != said:
        raise UserError(
            f"{path} and {file} don't fit together: link the dataset again "
            "(snakemake --forcerun link_dataset)"
        )
    return file


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of each split's rows and of their numbers in the manifest.

    The same for the same rows, however the file holds them; a column's digest is of its numbers,
    or of its texts' lengths and bytes. How files are read counts, where it isn't as Pillow does.
    """
    parts: dict[str, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        names = [name for name in _DIGESTED if name in file.schema_arrow.names]
        read = of_manifest(file.schema_arrow.metadata).metadata()
        start = 0
        for batch in file.iter_batches(columns=["split", *names]):
            rows = np.arange(start, start + len(batch))
            start += len(batch)
            for split in batch["split"].unique().to_pylist():
                chosen = np.flatnonzero(_is(pa.chunked_array([batch["split"]]), split))
                part = batch.take(_array(chosen))
                mine = parts.setdefault(split, defaultdict(hashlib.sha256))
                mine["row"].update(rows[chosen].tobytes())
                for name in names:
                    for kind, data in enumerate(_plain(part[name])):
                        mine[f"{name} {kind}"].update(data)
    for mine in parts.values():
        for key, text in read.items():
            mine[key.decode()].update(text)
    return {split: _together(mine) for split, mine in parts.items()}


def _together(parts: Mapping[str, Any]) -> str:
    whole = hashlib.sha256()
    for name in sorted(parts):
        whole.update(name.encode() + parts[name].digest())
    return whole.hexdigest()


def _plain(column: pa.Array) -> tuple[bytes, ...]:
    """What a column holds, without how: its numbers, or its texts' lengths and bytes."""
    if not pa.types.is_string(column.type):
        return (np.from_dlpack(column).tobytes(),)
    lengths = np.from_dlpack(pc.binary_length(column)).tobytes()
    _, offsets, texts = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return lengths, texts.slice(ends[0], ends[-1] - ends[0]).to_pybytes() if texts else b""
