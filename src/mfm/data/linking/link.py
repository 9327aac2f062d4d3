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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfm.data.folders import left_out, meaning
from mfm.data.folders.groups import number_of_groups
from mfm.data.folders.labels import labels_of
from mfm.data.folders.tree import UNLABELLED
from mfm.data.linking import manifest
from mfm.data.linking.division import division_of, uneven
from mfm.data.linking.scan import Check
from mfm.data.pictures.reading import reading_of
from mfm.data.settings import Dataset
from mfm.data.sources import fashion_mnist, generated, torchvision_export
from mfm.data.sources.named import (
    OWNER,
    check_owner,
    check_source,
    folders_of,
    is_folder,
    source_of,
)
from mfm.data.sources.torchvision_names import TORCHVISION
from mfm.errors import UserError, several
from mfm.files import records
from mfm.files.atomic import write_text

Summary = dict[str, Any]  # plain JSON values
_SUMMED_UP = ("split", "class", "width", "height", "bytes", "content", "group")


def link(dataset: Dataset, folder: Path, *, demands: Check = lambda counts: []) -> list[str]:
    """Make folder/train and folder/val, a manifest and a summary; what to know of them, in lines.

    A built-in dataset is exported once. A folder that holds another dataset is refused, and one
    that this did not make is never removed. `demands` finds what an experiment asks in vain of the
    number of images of each class by split.

    Raises UserError with all that is wrong.
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
    labels = labels_of(dataset)
    if is_folder(dataset):
        folders = folders_of(dataset) if labels is None else labels.folders
        for split, images in folders.items():
            _link(images, folder / split)
        if "val" not in folders and (folder / "val").is_symlink():
            (folder / "val").unlink()
    splits = ["train", "val"] if dataset.val_fraction is None else ["train"]
    if dataset.unlabelled is not None:
        _link(Path(dataset.unlabelled).expanduser(), folder / UNLABELLED)
        splits.append(UNLABELLED)
    elif (folder / UNLABELLED).is_symlink():
        (folder / UNLABELLED).unlink()
    found = manifest.write(
        folder,
        splits=splits,
        labels=labels,
        division=division_of(dataset),
        reading=reading_of(dataset),
        check=lambda counts: [*meaning.faults(counts), *demands(counts)],
        check_rows=meaning.check_val,
    )
    print(
        f"{found.read:,} files read, {found.unchanged:,} images unchanged since the last time",
        flush=True,
    )
    described = summary(dataset, folder / manifest.NAME) | {"left_out": found.left_out.summary()}
    described |= found.scaling.summary()
    write_text(folder / "summary.json", json.dumps(described, indent=2) + "\n")
    left = [folder / manifest.NAME, folder / "summary.json", *folder.glob("images.*.json")]
    records.write(read=[], left=left)
    write_text(folder / OWNER, source_of(dataset) + "\n")
    return [
        *_notes(described, folder),
        *uneven(dataset, described["splits"]),
        *found.scaling.notes(),
    ]


def foresee(dataset: Dataset, *, demands: Check) -> None:
    """Raise UserError for what `link` would find wrong by names and numbers.

    Nothing is known of what a dataset of torchvision will have.
    """
    known = {
        "fashion-mnist": dict.fromkeys(fashion_mnist.CLASSES, fashion_mnist.TRAINING_IMAGES),
        "generated": dict.fromkeys(generated.CLASSES, generated.PER_CLASS["train"]),
    }
    if dataset.source in known:
        counts = {"train": known[dataset.source]}
        faults = division_of(dataset).faults(counts, demands)
        if faults:
            raise several(faults)
    if not is_folder(dataset):
        return
    labels = labels_of(dataset)
    roots = folders_of(dataset) if labels is None else dict(labels.folders)
    if not all(each.is_dir() for each in roots.values()) and labels is None:
        return  # which is told of the source
    if dataset.unlabelled is not None:
        roots[UNLABELLED] = Path(dataset.unlabelled).expanduser()
    manifest.foresee(
        roots,
        labels=labels,
        division=division_of(dataset),
        reading=reading_of(dataset),
        check=lambda counts: [*meaning.faults(counts), *demands(counts)],
    )


def _notes(summary: Summary, folder: Path) -> list[str]:
    """What was left out, and what is in two splits."""
    left, lines = summary["left_out"], meaning.leaks(summary)
    if left:
        number = sum(each["number"] for each in left.values())
        lines.insert(
            0,
            f"{number:,} file{'s' * (number > 1)} left out (all of them: "
            f"{folder / left_out.NAME}): {left_out.told(left)}",
        )
    return lines


def summary(dataset: Dataset, manifest_path: Path) -> Summary:
    """Counts per split and class, sizes in pixels and bytes, images that are in two splits."""
    names = [name for name in pq.read_schema(manifest_path).names if name in _SUMMED_UP]
    table = pq.read_table(manifest_path, columns=names)
    splits: dict[str, object] = {}
    for split in sorted(table["split"].unique().to_pylist()):
        part = table.filter(pc.equal(table["split"], split))
        described: dict[str, object] = {"images": part.num_rows}
        if split != UNLABELLED:
            counts = part.group_by("class").aggregate([([], "count_all")]).sort_by("class")
            described["per_class"] = dict(
                zip(counts["class"].to_pylist(), counts["count_all"].to_pylist(), strict=True)
            )
        if "group" in part.column_names:
            described["groups"] = number_of_groups(part["group"])
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
        "overlap": meaning.overlap(table),
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
