"""Sources of images that a configuration can name."""

from __future__ import annotations

import os
from pathlib import Path

from mfm.data.settings import Dataset
from mfm.data.sources.torchvision_names import TORCHVISION, check_name, names
from mfm.errors import UserError
from mfm.settings.messages import closest

OWNER = "source.txt"  # in a dataset's folder: what it was made from
BUILT_IN = ("fashion-mnist", "generated")


def check_source(dataset: Dataset, *, linked: bool = True) -> None:
    """Raise UserError where the source is neither built in nor a folder with train/ and val/.

    Also where there is no folder of unlabelled images, or of archives, and one is named; and where
    nothing is `linked` yet and nobody has the files.
    """
    if dataset.archives is not None and not Path(dataset.archives).expanduser().is_dir():
        raise UserError(f"dataset.archives: there is no folder '{dataset.archives}'")
    if dataset.unlabelled is not None and not Path(dataset.unlabelled).expanduser().is_dir():
        raise UserError(f"dataset.unlabelled: there is no folder '{dataset.unlabelled}'")
    if dataset.val_fraction is not None and not is_folder(dataset):
        raise UserError(
            f"dataset.val_fraction is for a folder of your own, and {dataset.source} has a val: "
            "leave it out"
        )
    if dataset.labels is not None and not is_folder(dataset):
        raise UserError(
            f"dataset.labels is for a folder of your own, and {dataset.source} has labels: leave "
            "it out"
        )
    if dataset.source in BUILT_IN:
        return
    if dataset.source.startswith(TORCHVISION):
        name = dataset.source.removeprefix(TORCHVISION)
        check_name(name, found_elsewhere=linked or dataset.archives is not None)
        return
    root = Path(dataset.source).expanduser()
    if dataset.val_fraction is not None and dataset.labels is None and root.is_dir():
        _check_undivided(dataset, root)
        return
    if not root.is_dir():
        raise UserError(
            f"dataset.source: '{dataset.source}' is neither a built-in dataset "
            f"({', '.join(BUILT_IN)}, {TORCHVISION}<name>) nor an existing folder"
            f"{_meant(dataset.source)}"
        )
    if dataset.labels is not None:
        _check_labels(dataset.labels, root)
        return
    for split in ("train", "val"):
        if (root / split).is_symlink() and not (root / split).exists():
            raise UserError(
                f"dataset.source: {root / split} is a link to {os.readlink(root / split)}, which "
                "isn't there; mend it"
            )
        if not (root / split).is_dir():
            raise UserError(
                f"dataset.source: {root} has no folder '{split}'; it needs train/<class>/ and "
                "val/<class>/, or dataset.val_fraction, which takes val from the images there are, "
                "or dataset.labels, a CSV file that lists them"
            )
    if os.path.samefile(root / "train", root / "val"):
        raise UserError(
            f"dataset.source: {root}/val is the same folder as {root}/train: nothing can be said "
            "of images that were not trained on; put other images into val"
        )


def folders_of(dataset: Dataset) -> dict[str, Path]:
    """Folder of each split that the user's source has: with val_fraction there is but one."""
    root = Path(dataset.source).expanduser()
    if dataset.val_fraction is None:
        return {"train": root / "train", "val": root / "val"}
    return {"train": root / "train" if (root / "train").is_dir() else root}


def _check_labels(labels: str, root: Path) -> None:
    """Raise UserError where there is no such file."""
    if Path(labels).expanduser().is_file():
        return
    inside = root / labels
    hint = f" (did you mean {inside}?)" if inside.is_file() else ""
    raise UserError(f"dataset.labels: there is no file '{labels}'{hint}")


def _check_undivided(dataset: Dataset, root: Path) -> None:
    """Raise UserError where a folder has a val already, or its classes hold what has no class."""
    if (root / "val").is_dir():
        raise UserError(
            f"dataset.val_fraction: {root} has a folder 'val'; leave val_fraction out to use it, "
            "or move that folder away"
        )
    (classes,) = folders_of(dataset).values()
    if dataset.unlabelled is None:
        return
    unlabelled = Path(dataset.unlabelled).expanduser().resolve()
    if classes.resolve() == unlabelled.parent:
        raise UserError(
            f"dataset.unlabelled: {unlabelled} lies among the classes and would be one of them: "
            f"move the classes below {root}/train"
        )


def _meant(source: str) -> str:
    """A hint at the built-in dataset that a name without its place stands for."""
    known = [*BUILT_IN, *(f"{TORCHVISION}{name}" for name in names())]
    by_name = {_letters(each.removeprefix(TORCHVISION)): each for each in reversed(known)}
    meant = by_name.get(_letters(source)) or closest(source, known)
    return f" (did you mean '{meant}'?)" if meant else ""


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def is_folder(dataset: Dataset) -> bool:
    """Whether the images lie in a folder of the user's."""
    return dataset.source not in BUILT_IN and not dataset.source.startswith(TORCHVISION)


def source_of(dataset: Dataset) -> str:
    """The built-in dataset's name, or the folder's whole path."""
    if not is_folder(dataset):
        return dataset.source
    return str(Path(dataset.source).expanduser().resolve())


def check_owner(dataset: Dataset, folder: Path) -> str | None:
    """The source that `folder` (data/<name>) was made from, if it was.

    Raises UserError where that is another source: one name, one source. A folder that isn't where
    it was has been moved.
    """
    marker = folder / OWNER
    owner = marker.read_text(encoding="utf-8").strip() if marker.exists() else None
    moved = owner is not None and Path(owner).is_absolute() and not Path(owner).exists()
    if owner is not None and owner != source_of(dataset) and not moved:
        raise UserError(
            f"{folder} holds the dataset from '{owner}', not from '{source_of(dataset)}': give "
            f"dataset.name another value, or remove {marker} if these are the same images"
        )
    return owner
