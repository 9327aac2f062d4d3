"""Which datasets a configuration can name."""

from __future__ import annotations

from pathlib import Path

from mfm import config
from mfm.errors import UserError

BUILT_IN = ("fashion-mnist", "generated")


def check_source(dataset: config.Dataset) -> None:
    """Raise UserError where the source is neither built in nor a folder with train/ and val/."""
    if dataset.source in BUILT_IN:
        return
    root = Path(dataset.source).expanduser()
    if not root.is_dir():
        raise UserError(
            f"dataset.source: '{dataset.source}' is neither a built-in dataset "
            f"({', '.join(BUILT_IN)}) nor an existing folder"
        )
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise UserError(
                f"dataset.source: {root} has no folder '{split}'; it needs train/<class>/ and "
                "val/<class>/"
            )
