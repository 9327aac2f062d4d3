"""Published figures: what upstream and the paper report, with their sources."""

from __future__ import annotations

from collections.abc import Hashable
from importlib.resources import files
from typing import Any

import pandas as pd

from mfm.experiment.settings import Experiment
from mfm.reporting.document import Column, Link, Section, Table

_TITLES = {"upstream": "Published by upstream", "paper": "Published in the paper"}
Row = dict[Hashable, Any]


def _epochs(row: Row) -> str:
    finetuning = str(row["finetune_epochs"])
    return f"{row['pretrain_epochs']} + {finetuning}" if row["pretrain_epochs"] else finetuning


COLUMNS: list[Column[Row]] = [
    Column("arm", lambda row: str(row["row"])),
    Column("top-1", lambda row: str(row["top1"]), unit="%"),
    Column("dataset", lambda row: str(row["dataset"])),
    Column("backbone", lambda row: str(row["backbone"])),
    Column("epochs", _epochs),
    Column("source", lambda row: Link(str(row["source"]), str(row["source"]))),
    Column("note", lambda row: str(row["note"])),
]


def load_published() -> pd.DataFrame:
    """The figures, as they were published."""
    with (files("mfm.reporting") / "published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"top1": str}, keep_default_na=False)


def sections(experiment: Experiment) -> list[Section]:
    """Those of the experiment's dataset and backbone first; the others are not comparable."""
    published = load_published()
    ours = (published["dataset"] == experiment.dataset.name) & (
        published["backbone"] == experiment.model.backbone
    )
    groups = (
        (published[ours], "same dataset and backbone as above"),
        (
            published[~ours],
            f"not comparable with the rows above, which are {experiment.model.backbone} on "
            f"{experiment.dataset.name}",
        ),
    )
    found = []
    for part, relation in groups:
        for publisher, title in _TITLES.items():
            rows: list[Row] = part[part["publisher"] == publisher].to_dict("records")
            if rows:
                found.append(Section(f"{title} ({relation})", [Table(COLUMNS, rows)]))
    return found
