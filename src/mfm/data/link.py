"""Link of a dataset: what puts it below data/<name>/ and describes it.

Leaves data/<name>/{train,val} (links to the user's folders, or an export of a built-in dataset),
pretrain (a link, where unlabelled images are given), manifest.parquet and summary.json.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfm.data import fashion_mnist, generated, manifest, torchvision_export
from mfm.data.scan import UNLABELLED
from mfm.data.settings import Dataset
from mfm.data.sources import OWNER, check_owner, check_source, source_of
from mfm.data.torchvision_names import TORCHVISION
from mfm.errors import UserError
from mfm.files import records
from mfm.files.atomic import write_text


def link(dataset: Dataset, folder: Path) -> None:
    """Make folder/train and folder/val, a manifest and a summary.

    A built-in dataset is exported once. A folder that holds another dataset is refused, and one
    that this did not make is never removed.
    """
    check_source(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    _check_owner(dataset, folder)
    if dataset.source == "fashion-mnist":
        _export_once(
            dataset,
            folder,
            lambda target: fashion_mnist.export(
                fashion_mnist.find_or_fetch(
                    archives=dataset.archives, downloads=folder / "downloads"
                ),
                target,
            ),
        )
    elif dataset.source == "generated":
        _export_once(dataset, folder, generated.export)
    elif dataset.source.startswith(TORCHVISION):
        root = Path(dataset.archives or folder / "downloads").expanduser()
        _export_once(
            dataset,
            folder,
            lambda target: torchvision_export.export(dataset.source, root, target),
        )
    else:
        root = Path(dataset.source).expanduser().resolve()
        for split in ("train", "val"):
            _link(root / split, folder / split)
    splits = ["train", "val"]
    if dataset.unlabelled is not None:
        _link(Path(dataset.unlabelled).expanduser(), folder / UNLABELLED)
        splits.append(UNLABELLED)
    elif (folder / UNLABELLED).is_symlink():
        (folder / UNLABELLED).unlink()
    found = manifest.write(
        folder,
        splits=splits,
        holdout_per_class=dataset.holdout_per_class,
        on_bad_image=dataset.on_bad_image,
    )
    print(
        f"{found.read:,} images read, {found.unchanged:,} unchanged since the last time, "
        f"{found.bad} unreadable",
        flush=True,
    )
    described = summary(dataset, folder / manifest.NAME)
    write_text(folder / "summary.json", json.dumps(described, indent=2) + "\n")
    left = [folder / manifest.NAME, folder / "summary.json", *folder.glob("images.*.json")]
    records.write(read=[], left=left)
    write_text(folder / OWNER, source_of(dataset) + "\n")


def summary(dataset: Dataset, manifest_path: Path) -> dict[str, object]:
    """Counts per split and class, sizes in pixels and bytes."""
    table = pq.read_table(manifest_path, columns=["split", "class", "width", "height", "bytes"])
    splits: dict[str, object] = {}
    for split in sorted(table["split"].unique().to_pylist()):
        part = table.filter(pc.equal(table["split"], split))
        described: dict[str, object] = {"images": part.num_rows}
        if split != UNLABELLED:
            counts = part.group_by("class").aggregate([([], "count_all")]).sort_by("class")
            described["per_class"] = dict(
                zip(counts["class"].to_pylist(), counts["count_all"].to_pylist(), strict=True)
            )
        splits[split] = described | {
            "width": _spread(part["width"]),
            "height": _spread(part["height"]),
            "bytes": int(pc.sum(part["bytes"]).as_py()),
        }
    return {
        "name": dataset.name,
        "source": dataset.source,
        "classes": sorted(set(table["class"].unique().to_pylist()) - {""}),
        "images": table.num_rows,
        "splits": splits,
    }


def _spread(column: pa.ChunkedArray) -> dict[str, float]:
    values = column.to_numpy()
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "max": int(values.max()),
    }


def _check_owner(dataset: Dataset, folder: Path) -> None:
    """Refuse a folder that holds another dataset: one name, one source."""
    owner = check_owner(dataset, folder)
    for split in ("train", "val"):
        target = folder / split
        if owner is None and target.is_dir() and not target.is_symlink():
            raise UserError(
                f"{target} is a folder that this workflow did not make: give dataset.name another "
                "value, or move it away"
            )


def _export_once(dataset: Dataset, folder: Path, export: Callable[[Path], None]) -> None:
    """Export to a temporary folder and rename, so that a killed export is never taken for whole."""
    marker = folder / OWNER
    if marker.exists() and all((folder / split).is_dir() for split in ("train", "val")):
        return
    temporary = folder / ".export"
    shutil.rmtree(temporary, ignore_errors=True)
    export(temporary)
    write_text(marker, source_of(dataset) + "\n")  # what is removed from here on is our own
    for split in ("train", "val"):
        target = folder / split
        if target.is_symlink():
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary / split, target)
    temporary.rmdir()


def _link(images: Path, target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        raise UserError(
            f"{target} is a folder, not a link to {images}: another dataset has the name "
            f"'{target.parent.name}'; give dataset.name another value"
        )
    target.symlink_to(images.resolve(), target_is_directory=True)
