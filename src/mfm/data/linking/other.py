"""Other images of a dataset's classes: what their folder has to be, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mfm.data.folders.class_names import numbered, unknown
from mfm.data.folders.labels import labels_of
from mfm.data.folders.tree import class_folders
from mfm.data.settings import Dataset, OtherImages
from mfm.data.sources import fashion_mnist, generated
from mfm.data.sources.named import folders_of, is_folder
from mfm.errors import UserError

SUMMARY = "summary.json"
_CALLED = {"pretrain": "the unlabelled ones"}


def known_classes(dataset: Dataset, folder: Path) -> Sequence[str] | None:
    """A dataset's classes, from its linked folder or from names; None where nothing tells yet."""
    known = {"fashion-mnist": fashion_mnist.CLASSES, "generated": generated.CLASSES}
    # What is wrong with the dataset itself is told elsewhere.
    with suppress(OSError, ValueError, KeyError, UserError):
        if (folder / SUMMARY).exists():
            return list(json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["classes"])
        labels = labels_of(dataset)
        if labels is not None:
            return labels.classes
        if is_folder(dataset):
            return class_folders(folders_of(dataset)["train"])
    return known.get(dataset.source)


def check(images: OtherImages, classes: Sequence[str] | None) -> dict[str, str]:
    """The class of each of the folder's own folders, by its name; None: not known yet, so none.

    Raises UserError where there is no such folder, for folders in it that are named as no class,
    and where there are images of a single class.
    """
    root = Path(images.folder).expanduser()
    if not root.is_dir():
        raise UserError(f"there is no folder '{images.folder}'")
    names = class_folders(root)
    if classes is None:
        return {}
    if images.numbered:
        found = numbered(root, names, classes)
    else:
        faults = unknown(root, names, classes)
        if faults:
            raise UserError(*faults)
        found = {name: name for name in names}
    if len(found) == 1:
        raise UserError(
            f"{root} has images of a single class, so every answer among its classes is right: "
            "two or more are needed"
        )
    return found


def overlaps(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each split of the dataset that has some of the images, byte for byte."""
    return [
        f"{number:,} of the {summary['images']:,} images {'is' if number == 1 else 'are'} also in "
        f"{_CALLED.get(split, split)}, byte for byte."
        for split, number in summary["overlap"].items()
        if number
    ]
