"""Sources of images that a configuration can name."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.settings.messages import nearest

OWNER = "source.txt"  # in a dataset's folder: what it was made from
BUILT_IN = ("fashion-mnist", "generated")
TORCHVISION = "torchvision/"


def check_source(dataset: Dataset) -> None:
    """Raise UserError where the source is neither built in nor a folder with train/ and val/.

    Also where there is no folder of unlabelled images, and one is named.
    """
    if dataset.unlabelled is not None and not Path(dataset.unlabelled).expanduser().is_dir():
        raise UserError(f"dataset.unlabelled: there is no folder '{dataset.unlabelled}'")
    if dataset.source in BUILT_IN:
        return
    if dataset.source.startswith(TORCHVISION):
        _check_torchvision(dataset.source.removeprefix(TORCHVISION))
        return
    root = Path(dataset.source).expanduser()
    if not root.is_dir():
        raise UserError(
            f"dataset.source: '{dataset.source}' is neither a built-in dataset "
            f"({', '.join(BUILT_IN)}, {TORCHVISION}<name>) nor an existing folder"
        )
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise UserError(
                f"dataset.source: {root} has no folder '{split}'; it needs train/<class>/ and "
                "val/<class>/"
            )


def _check_torchvision(name: str) -> None:
    """Raise UserError for a name that torchvision has no dataset of; without importing it."""
    package = importlib.util.find_spec("torchvision")
    assert package is not None
    assert package.origin is not None
    tree = ast.parse(
        (Path(package.origin).parent / "datasets/__init__.py").read_text(encoding="utf-8")
    )
    names = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    if name not in names:
        raise UserError(
            f"dataset.source: torchvision has no dataset '{name}'{nearest(name, names)}"
        )


def source_of(dataset: Dataset) -> str:
    """The built-in dataset's name, or the folder's whole path."""
    if dataset.source in BUILT_IN or dataset.source.startswith(TORCHVISION):
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
            "dataset.name another value, or remove that folder"
        )
    return owner
