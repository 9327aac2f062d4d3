"""Accuracies on frozen features, as frozen.csv has them: features, seed, method, top1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def read(path: str | Path) -> pd.DataFrame:
    """frozen.csv, or the rows of one kind of features; top1 in percent."""
    return pd.read_csv(path, dtype={"features": str})


def collect(paths: Sequence[str | Path]) -> pd.DataFrame:
    """frozen.csv from the rows of each kind of features."""
    return pd.concat([read(path) for path in paths])
