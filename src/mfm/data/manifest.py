"""The manifest: one row per image, read once from the files' headers.

Columns: split ('train', 'val' or 'holdout'), path (below the dataset's folder), label, class,
width, height, bytes. Sorted by split and path, so a row number means the same on every machine.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from mfm.atomic import replacing
from mfm.data.selection import per_class_positions
from mfm.draws import Ints, Stream
from mfm.errors import UserError
from mfm.parallel import map_in_processes

# torchvision's ImageFolder accepts these; Pillow reads all of them.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_SHOWN = 5
_HOLDOUT_SEED = 0


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

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, position: int) -> Path:
        """The file of image `position`."""
        return self.root / str(self.paths[position].as_py())

    def take(self, positions: Ints) -> Images:
        """The images at `positions`."""
        return Images(
            self.root,
            self.classes,
            self.paths.take(pa.array(positions)),
            self.rows[positions],
            self.labels[positions],
            self.widths[positions],
            self.heights[positions],
        )


def scan(folder: Path, *, holdout_per_class: int = 0) -> pa.Table:
    """Read the headers of all images in folder/{train,val}/<class>/ and check them.

    Raises UserError for a missing folder, an empty class, classes that differ between train and
    val, and unreadable images (named, with their number).
    """
    classes = _classes(folder)
    found = [
        (split, name, path)
        for split in ("train", "val")
        for name in classes
        for path in _files(folder / split / name)
    ]
    headers = map_in_processes(_header, [path for _, _, path in found], title="read image headers")
    bad = [
        f"{item[2]} ({header})"
        for item, header in zip(found, headers, strict=True)
        if isinstance(header, str)
    ]
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise UserError(
            f"{len(bad)} unreadable image{'s' * (len(bad) > 1)}: {', '.join(bad[:_SHOWN])}{more}; "
            "repair or remove them"
        )
    sizes = np.array([header for header in headers if not isinstance(header, str)], np.int64)
    table = pa.table(
        {
            "split": pa.array([split for split, _, _ in found]),
            "path": pa.array([str(path.relative_to(folder)) for _, _, path in found]),
            "label": pa.array([classes.index(name) for _, name, _ in found], pa.int32()),
            "class": pa.array([name for _, name, _ in found]),
            "width": pa.array(sizes[:, 0], pa.int32()),
            "height": pa.array(sizes[:, 1], pa.int32()),
            "bytes": pa.array(sizes[:, 2], pa.int64()),
        }
    )
    return _hold_out(table, holdout_per_class) if holdout_per_class else table


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


def _files(folder: Path) -> list[Path]:
    # Nested folders count, as in torchvision's ImageFolder.
    files = sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    )
    if not files:
        raise UserError(
            f"class folder {folder} has no images ({', '.join(EXTENSIONS)}); add some or remove it "
            "from train and val"
        )
    for file in files:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{os.fsencode(file).decode(errors='backslashreplace')}: the file's name is not "
                "UTF-8; rename it"
            ) from None
    return files


def _header(path: Path) -> tuple[int, int, int] | str:
    """(width, height, bytes) of an image, or why it can't be read."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "zero bytes"
        with Image.open(path) as image:
            if not _ends_well(path, image.format):
                image.load()  # decides: raises where pixels are missing
            return image.width, image.height, size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}".replace(str(path), "the file")


def _ends_well(path: Path, image_format: str | None) -> bool:
    """Whether the file ends as its format ends: a cheap sign that it isn't truncated."""
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if image_format not in endings:
        return False
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        return file.read().endswith(endings[image_format])


def _hold_out(table: pa.Table, per_class: int) -> pa.Table:
    """Move `per_class` training images of each class, drawn once and for all, to 'holdout'."""
    split = np.array(table["split"].to_pylist(), dtype=object)
    labels = table["label"].to_numpy()
    train = np.flatnonzero(split == "train")
    for label, count in zip(*np.unique(labels[train], return_counts=True), strict=True):
        if count <= per_class:
            name = table["class"][int(train[labels[train] == label][0])].as_py()
            raise UserError(
                f"dataset.holdout_per_class is {per_class}, but class {name} has {count} training "
                "images and needs some to train on; lower it"
            )
    chosen = per_class_positions(
        labels[train], per_class, seed=_HOLDOUT_SEED, stream=Stream.HOLDOUT
    )
    split[train[chosen]] = "holdout"
    return table.set_column(0, "split", pa.array(split.tolist()))


def save(table: pa.Table, path: Path) -> None:
    """Write the manifest atomically."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def load(path: Path, split: str) -> Images:
    """The images of one split. The manifest lies in the dataset's folder."""
    table = pq.read_table(path)
    selected = np.flatnonzero(pc.equal(table["split"], split).to_numpy(zero_copy_only=False))
    if not len(selected):
        raise UserError(f"{path} has no images of split '{split}'")
    pairs = table.select(["label", "class"]).group_by(["label", "class"]).aggregate([])
    classes = dict(zip(pairs["label"].to_pylist(), pairs["class"].to_pylist(), strict=True))
    part = table.take(pa.array(selected))
    return Images(
        root=path.parent,
        classes=tuple(classes[label] for label in sorted(classes)),
        paths=part["path"].combine_chunks(),
        rows=selected.astype(np.int64),
        labels=part["label"].to_numpy().astype(np.int64),
        widths=part["width"].to_numpy().astype(np.int64),
        heights=part["height"].to_numpy().astype(np.int64),
    )


def digest(path: Path) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the manifest's rows."""
    table = pq.read_table(path)
    sha = hashlib.sha256()
    for name in ("split", "path", "label", "width", "height", "bytes"):
        sha.update(repr((name, table[name].to_pylist())).encode())
    return sha.hexdigest()[:12]
