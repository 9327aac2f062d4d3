"""Rows of results: the columns of results.csv, and how it is read. Reports need no torch for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

COLUMNS = (
    "arm",
    "pretraining",
    "pretraining_seed",
    "seed",
    "top1",
    "top5",
    "loss",
    "images",
    "epochs",
    "train_images",
    "images_per_second",
    "seconds",
    "code_version",
    "config_hash",
    "checkpoint",
)


def read_results(path: str | Path) -> pd.DataFrame:
    """results.csv, or one of its rows as an evaluation left it."""
    return pd.read_csv(path, dtype={"config_hash": str, "pretraining_seed": str})


def collect_rows(paths: Sequence[str | Path]) -> pd.DataFrame:
    """results.csv from the single rows that evaluations left; its columns alone from none."""
    if not paths:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat([read_results(path) for path in paths])
