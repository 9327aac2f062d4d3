"""Layout of a user's folder: where its labels, its val and its unlabelled images are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mfm.data.folders.labels import has_val
from mfm.data.folders.shards import tars_in
from mfm.data.settings import Dataset
from mfm.data.sources.named import check_source, folders_of
from mfm.errors import UserError
from mfm.files.lines import shown

_UNLABELLED = ("unlabelled", "unlabeled", "pretrain")
_LABELS = "labels.csv"
_VAL = ("valid", "validation", "dev", "test", "eval")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What dataset.source, labels and unlabelled are to say, and whether there is a val."""

    source: Path
    labels: Path | None = None
    unlabelled: Path | None
    has_val: bool


def lay_out(folder: Path, labels: Path | None = None) -> Layout:
    """How the workflow is to read a folder: with train/ and val/, with train/ alone, or classes.

    Or by a file of labels, which may also lie in the folder as labels.csv.

    Raises UserError, with what to do, where there are no classes to be found.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {shown(folder)}")
    if labels is not None:
        return _listed(folder.resolve(), labels.resolve())
    source = _inside(folder.resolve())
    if (source / _LABELS).is_file():
        try:
            return _listed(source, source / _LABELS)
        except UserError as error:
            raise UserError(
                f"{error} (give that file another name where it isn't about these images)"
            ) from None
    names = _folders(source)
    for name in names:
        if name.lower() in ("train", "val") and name != name.lower():
            raise UserError(f"{shown(source / name)}: call it {name.lower()}, in small letters")
    train = "train" in names
    unlabelled = _unlabelled(source)
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
    if "val" not in names:
        _check_classes(source)
    return Layout(source=source, unlabelled=unlabelled, has_val="val" in names)


def _listed(source: Path, labels: Path) -> Layout:
    if not labels.is_file():
        raise UserError(f"--labels: there is no file {shown(labels)}")
    return Layout(
        source=source,
        labels=labels,
        unlabelled=_unlabelled(source),
        has_val=has_val(labels, source),
    )


def _unlabelled(source: Path) -> Path | None:
    names = _folders(source)
    return next((source / name for name in _UNLABELLED if name in names), None)


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


def _check_classes(source: Path) -> None:
    """Raise UserError where a folder without val has no classes to take one from."""
    dataset = Dataset(name="new", source=str(source), val_fraction=0.5)
    check_source(dataset)
    (classes,) = folders_of(dataset).values()
    if not _folders(classes) and not tars_in(classes):
        raise UserError(
            f"{shown(classes)} has no folders of classes, and a comparison needs labels: put the "
            f"labelled images into {shown(source / 'train')}/<class>/, and others into "
            f"{shown(source / 'unlabelled')}"
        )
