"""Layout of a user's folder: where its classes, its val and its unlabelled images are."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mfm.data.settings import Dataset
from mfm.data.sources import check_source, folders_of
from mfm.data.tree import survey
from mfm.errors import UserError
from mfm.files.lines import shown

_UNLABELLED = ("unlabelled", "unlabeled", "pretrain")
_VAL = ("valid", "validation", "dev", "test", "eval")
# Of the images without val: a fifth, and more of few, down to half.
SHARE, ENOUGH, MOST = 0.2, 100, 0.5


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What dataset.source, dataset.unlabelled and dataset.val_fraction are to say."""

    source: Path
    unlabelled: Path | None
    val_fraction: float | None


def lay_out(folder: Path) -> Layout:
    """How the workflow is to read a folder: with train/ and val/, with train/ alone, or classes.

    Raises UserError, with what to do, where there are no classes to be found.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {shown(folder)}")
    source = _inside(folder.resolve())
    names = _folders(source)
    for name in names:
        if name.lower() in ("train", "val") and name != name.lower():
            raise UserError(f"{shown(source / name)}: call it {name.lower()}, in small letters")
    train = "train" in names
    unlabelled = next((source / name for name in _UNLABELLED if name in names), None)
    if "val" in names and not train:
        raise UserError(
            f"{shown(source)} has val/ and no train/: put the training images into train/<class>/"
        )
    other = next((name for name in names if name.lower() in _VAL), None)
    if train and "val" not in names and other is not None:
        raise UserError(
            f"{shown(source)} has train/ and {other}/, and what is evaluated on is called val: "
            f"ln -s {other} {shown(source / 'val')}"
        )
    if unlabelled is not None and not train:
        raise UserError(
            f"{shown(unlabelled)} lies among the classes and would be one of them: move the "
            f"classes below {shown(source / 'train')}"
        )
    fraction = None if "val" in names else _fraction(source)
    return Layout(source=source, unlabelled=unlabelled, val_fraction=fraction)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _inside(folder: Path) -> Path:
    """The folder itself, or the one that alone lies in it."""
    while True:
        try:
            with os.scandir(folder) as entries:
                seen = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise UserError(f"{shown(folder)} can't be read: {error.strerror}") from None
        inner = Path(seen[0].path) if len(seen) == 1 and seen[0].is_dir() else None
        if inner is None or inner.name == "train" or not _folders(inner):
            return folder
        folder = inner


def _fraction(source: Path) -> float:
    """Share of the images that val is to be: enough of them, and two of the smallest class."""
    dataset = Dataset(name="new", source=str(source), val_fraction=SHARE)
    check_source(dataset)
    folders = folders_of(dataset)
    if not _folders(folders["train"]):
        raise UserError(
            f"{shown(folders['train'])} has no folders of classes, and a comparison needs labels: "
            f"put the labelled images into {shown(source / 'train')}/<class>/, and others into "
            f"{shown(source / 'unlabelled')}"
        )
    counts = Counter[str]()
    for (_, name), number in survey(folders, lambda path, unread: None).counts.items():
        counts[name] += number
    wanted = max(SHARE, ENOUGH / counts.total(), 2 / max(2, min(counts.values())))
    return min(MOST, round(wanted + 0.0049, 2))
