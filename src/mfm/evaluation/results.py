"""Rows of results: the columns of results.csv, and how it is read. Reports need no torch for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from mfm.errors import UserError
from mfm.evaluation.metrics import METRICS, TOP1, read_scores
from mfm.files.records import again

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


_ROUNDING = 1e-4  # of top1 in a row


def read_results(path: str | Path) -> pd.DataFrame:
    """results.csv, or one of its rows as an evaluation left it."""
    return pd.read_csv(path, dtype={"config_hash": str, "pretraining_seed": str})


def collect_rows(paths: Sequence[str | Path], *, metric: str = TOP1, k: int = 5) -> pd.DataFrame:
    """results.csv from the single rows that evaluations left; its columns alone from none.

    A metric that they don't have, of the question, is a column more. Raises UserError for a row
    that is not the one of its place, or that its predictions contradict.
    """
    if not paths:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat([_read_row(Path(path)) for path in paths])
    if metric == TOP1:
        return rows
    found = [Path(path).with_suffix(".parquet") for path in paths]
    values = [METRICS[metric].value(read_scores(predictions, k=k)) for predictions in found]
    return rows.assign(**{metric: values})


def _read_row(path: Path) -> pd.DataFrame:
    """An evaluation's row; top1 as its predictions say, where they are here."""
    rows = read_results(path)
    arm, seed = str(rows["arm"].iloc[0]), int(rows["seed"].iloc[0])
    if (path.parent.name, path.stem) != (arm, f"seed{seed}"):
        raise UserError(f"{path} is the row of {arm}, seed {seed}: {again(path)}")
    predictions = path.with_suffix(".parquet")
    if predictions.exists():
        found = top1_of(predictions)
        if abs(found - float(rows["top1"].iloc[0])) > _ROUNDING:
            said = f"{path} says top-1 {rows['top1'].iloc[0]}, and {predictions} {found}"
            raise UserError(f"{said}: {again(path)}")
    return rows


def top1_of(predictions: Path) -> float:
    """Accuracy in percent of the images in a file of predictions, as a row has it."""
    correct = pq.read_table(predictions, columns=["correct"])["correct"]
    return round(100 * float(correct.to_numpy().mean()), 4)
