"""Looks at the evaluated images: how many different experiments were evaluated on a split.

Who tries many settings and reports the best one has chosen it by chance, in part. So every
experiment that is evaluated leaves a line beside the dataset, which all experiments on it share.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from mfm.files.atomic import write_csv
from mfm.processes.locks import only_writer

NAME = "looks.csv"
_COLUMNS = ("split", "experiment", "first", "results")


def note(folder: Path, *, split: str, experiment: str, results: str) -> None:
    """Leave a line in a dataset's folder, unless that experiment has one for this split."""
    time = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    with only_writer(folder):
        rows = _rows(folder)
        if any((row["split"], row["experiment"]) == (split, experiment) for row in rows):
            return
        new = {"split": split, "experiment": experiment, "first": time, "results": results}
        write_csv(folder / NAME, [*rows, new], _COLUMNS)


def count(folder: Path, split: str) -> int:
    """Number of different experiments that were evaluated on a split of a dataset."""
    return len({row["experiment"] for row in _rows(folder) if row["split"] == split})


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / NAME
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
