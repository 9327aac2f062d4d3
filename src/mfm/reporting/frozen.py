"""Accuracies on frozen features, as frozen.csv has them: a row a seed, amount and method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mfm.evaluation.frozen.settings import FLOORS, PIXELS, RANDOM
from mfm.experiment.settings import Experiment
from mfm.reporting.verdict import sample_of
from mfm.statistics.over_seeds import Difference, difference
from mfm.statistics.units import Sample

_NAMES = {PIXELS: "none: raw pixels", RANDOM: "random weights"}


def read(path: str | Path) -> pd.DataFrame:
    """frozen.csv, or the rows of one kind of features; top1 in percent."""
    return pd.read_csv(path, dtype={"features": str, "amount": str})


def collect(paths: Sequence[str | Path]) -> pd.DataFrame:
    """frozen.csv from the rows of each kind of features."""
    return pd.concat([read(path) for path in paths])


def shown(features: str) -> str:
    """A kind of features, as tables call it."""
    return _NAMES.get(features, features)


@dataclass(frozen=True, kw_only=True)
class Readings:
    """The rows, and what they say of each kind of features."""

    experiment: Experiment
    rows: pd.DataFrame

    @property
    def features(self) -> list[str]:
        """The kinds: pixels, random weights, then arms in the configuration's order."""
        known = set(self.rows["features"])
        return [name for name in (*FLOORS, *self.experiment.arms) if name in known]

    @property
    def amounts(self) -> list[str]:
        """The amounts of labelled images, from the smallest on."""
        found = self.rows.groupby("amount")["images"].mean()
        return [str(name) for name in found.sort_values().index]

    @property
    def methods(self) -> list[str]:
        """As they were asked for."""
        return [str(name) for name in self.rows["method"].unique()]

    def part(self, features: str, method: str, amount: str) -> pd.DataFrame:
        """The rows of one kind of features, method and amount: one a seed."""
        rows = self.rows
        same = (rows["features"] == features) & (rows["method"] == method)
        return rows[same & (rows["amount"] == amount)]

    def sample(self, features: str, method: str, amount: str) -> Sample | None:
        """Its top-1 by seed, with the pretrainings that they rest on; None where none was read."""
        part = self.part(features, method, amount)
        if part.empty:
            return None
        if features not in FLOORS:
            return sample_of(self.experiment, features, part)
        seeds, values = part["seed"].astype(int), part["top1"].astype(float)
        return Sample(values=dict(zip(seeds, values, strict=True)))

    def gain(self, features: str, method: str, amount: str) -> Difference | None:
        """Less random weights, paired by seed; None for these, and for what no training made."""
        ours, other = (self.sample(name, method, amount) for name in (features, RANDOM))
        if features in FLOORS or ours is None or other is None:
            return None
        return difference(ours, other)
