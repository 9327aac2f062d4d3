"""Link of other images of a dataset's classes: what puts them beside it and describes them.

Leaves data/<name>/also/<their name>/{val (a link), manifest.parquet, images.val.json,
summary.json}. Labels are the dataset's, of whose classes the folder may lack some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfm.data.folders import left_out
from mfm.data.linking import manifest
from mfm.data.linking.other import SUMMARY, check, overlaps
from mfm.data.settings import OTHER_SPLIT, OtherImagesJob, images_file
from mfm.errors import UserError
from mfm.files import records
from mfm.files.atomic import write_text

_SEEN = ("train", "pretrain", "val")


def link(job: OtherImagesJob, folder: Path, *, dataset: Path, read: list[Path]) -> list[str]:
    """Link the images to `folder`; what to know of them, in lines. `dataset` is its manifest.

    The record says that `read` was read. Raises UserError with all that is wrong.
    """
    trained = manifest.load(dataset, "train")
    classes = trained.classes
    try:
        found = check(job.images, classes)
        folder.mkdir(parents=True, exist_ok=True)
        _put(job, found, folder / OTHER_SPLIT)
        scanned = manifest.write(
            folder,
            splits=[OTHER_SPLIT],
            classes=classes,
            reading=replace(trained.reading, on_bad_image=job.on_bad_image),
        )
    except UserError as error:
        raise UserError(f"evaluate.also.{job.name}: {error}") from None
    print(f"{scanned.read:,} files read, {scanned.unchanged:,} unchanged since the last time")
    described = _summary(folder / manifest.NAME, dataset) | {
        "folder": job.images.folder,
        "left_out": scanned.left_out.summary(),
        **scanned.scaling.summary(),
    }
    write_text(folder / SUMMARY, json.dumps(described, indent=2) + "\n")
    images = images_file(folder / manifest.NAME, OTHER_SPLIT)
    records.write(read=read, left=[folder / manifest.NAME, folder / SUMMARY, images])
    left = described["left_out"]
    told = [f"left out of {job.images.folder}: {left_out.told(left)}"] if left else []
    told += [*overlaps(described), *scanned.scaling.notes()]
    return [f"evaluate.also.{job.name}: {line}" for line in told]


def _put(job: OtherImagesJob, found: Mapping[str, str], target: Path) -> None:
    """A link to the folder; where its own are numbers, a link to each by the class's name."""
    root = Path(job.images.folder).expanduser().resolve()
    if target.is_symlink():
        target.unlink()
    elif target.exists():  # a folder of our links
        for each in target.iterdir():
            each.unlink()
        target.rmdir()
    if not job.images.numbered:
        target.symlink_to(root, target_is_directory=True)
        return
    target.mkdir()
    for name, label in found.items():
        (target / label).symlink_to(root / name, target_is_directory=True)


def _summary(path: Path, dataset: Path) -> dict[str, Any]:
    """Numbers of images and classes, and of images that are in the dataset too."""
    own = pq.read_table(path, columns=["label", "content"])
    theirs = pq.read_table(dataset, columns=["split", "content"])
    contents = own["content"].to_numpy()
    return {
        "images": own.num_rows,
        "classes": len(np.unique(own["label"].to_numpy())),
        "of_classes": len(manifest.load(path, OTHER_SPLIT).classes),
        "overlap": {
            split: int(np.isin(contents, theirs.filter(mine)["content"].to_numpy()).sum())
            for split in _SEEN
            if pc.any(mine := pc.equal(theirs["split"], split)).as_py()
        },
    }
