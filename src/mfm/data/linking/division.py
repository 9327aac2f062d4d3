"""Division of a folder's training images: what is taken from them for other splits, once, by draws.

`val` is taken where the folder has none of its own, then the holdout from what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfm.data.folders.groups import drawn
from mfm.data.folders.meaning import FEW_IMAGES
from mfm.data.folders.tree import quoted
from mfm.data.linking.selection import per_class_positions, share
from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.numerics.draws import Ints, Stream, hashes

_HOLDOUT_SEED = 0
_SHOWN = 3
_FEWEST = 4  # images of a class that leave both sides what `mfm.data.folders.meaning` asks for
_FAR = 0.05  # of a class's images, between what val has and what was asked
Counts = Mapping[str, Mapping[str, int]]  # of images, by split and class
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Division:
    """How many training images of each class go to other splits."""

    holdout_per_class: int = 0
    val_fraction: float | None = None
    val_seed: int = 0

    def faults(
        self, counts: Counts, check: Callable[[dict[str, dict[str, int]]], list[str]]
    ) -> list[str]:
        """What such numbers leave nothing of; else what `check` finds in those of the splits.

        Of val they are what they would be without copies of files.
        """
        return self._short(counts) or check(self._divided(counts))

    def of(self, table: pa.Table) -> tuple[Rows, Rows]:
        """Which rows are val, and which the holdout, from columns split, label, class and content.

        Where there is a column group, whole groups are taken (`mfm.data.folders.groups`).

        Raises UserError for a class that has too few different images, or groups, to divide.
        """
        labels = table["label"].to_numpy()
        train = pc.equal(table["split"], "train").to_numpy()
        val, held = np.zeros(len(train), bool), np.zeros(len(train), bool)
        grouped = "group" in table.column_names
        rows = np.flatnonzero(train)
        if self.val_fraction is not None:
            wanted = share(np.bincount(labels[rows]), self.val_fraction)
            draw = drawn if grouped else _drawn
            mine = draw(table.take(rows), wanted, seed=self.val_seed, stream=Stream.VAL)
            _check_both_sides(table.take(rows), mine, "val_fraction")
            val[rows] = mine
            rows = rows[~mine]
        if self.holdout_per_class and grouped:
            wanted = np.full(int(labels.max()) + 1, self.holdout_per_class)
            mine = drawn(table.take(rows), wanted, seed=_HOLDOUT_SEED, stream=Stream.HOLDOUT)
            _check_both_sides(table.take(rows), mine, "holdout_per_class")
            held[rows] = mine
        elif self.holdout_per_class:
            chosen = per_class_positions(
                labels[rows], self.holdout_per_class, seed=_HOLDOUT_SEED, stream=Stream.HOLDOUT
            )
            held[rows[chosen]] = True
        return val, held

    def _divided(self, counts: Counts) -> dict[str, dict[str, int]]:
        found = {split: dict(names) for split, names in counts.items()}
        if self.val_fraction is not None:
            train = np.array(list(found["train"].values()), np.int64)
            taken = share(train, self.val_fraction).tolist()
            found["val"] = dict(zip(found["train"], taken, strict=True))
            found["train"] = {name: n - found["val"][name] for name, n in found["train"].items()}
        if self.holdout_per_class:
            found["holdout"] = dict.fromkeys(found["train"], self.holdout_per_class)
            found["train"] = {
                name: number - self.holdout_per_class for name, number in found["train"].items()
            }
        return found

    def _short(self, counts: Counts) -> list[str]:
        """What is wrong with the numbers of training images that the division leaves."""
        train = dict(sorted(counts.get("train", {}).items()))
        if self.val_fraction is not None:
            few = {name: number for name, number in train.items() if number < 2}
            if few:
                return [
                    "dataset.val_fraction takes an image of each class for val, which leaves some "
                    f"classes no training image ({_fewest(few)}); add some, or move those away"
                ]
            if train and max(train.values()) < _FEWEST and len(train) < FEW_IMAGES:
                return [
                    f"no class has more than {max(train.values())} images, some of which "
                    f"dataset.val_fraction takes for val: {_FEWEST} or more are needed, so that 2 "
                    "are in train and 2 in val; add some"
                ]
            train = Division(val_fraction=self.val_fraction)._divided({"train": train})["train"]
        few = {name: number for name, number in train.items() if number <= self.holdout_per_class}
        if not self.holdout_per_class or not few:
            return []
        return [
            f"dataset.holdout_per_class is {self.holdout_per_class}, which leaves some classes no "
            f"training image ({_fewest(few)}); lower it"
        ]


def division_of(dataset: Dataset) -> Division:
    """What a dataset's settings say."""
    return Division(
        holdout_per_class=dataset.holdout_per_class,
        val_fraction=dataset.val_fraction,
        val_seed=dataset.val_seed,
    )


def uneven(dataset: Dataset, splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line on the class whose share in val is least what was asked, if it is far from that.

    `splits` are those of a dataset's summary; None is far where images have no groups.
    """
    if dataset.val_fraction is None or "groups" not in splits["val"]:
        return []
    val = splits["val"]["per_class"]
    of = {
        name: sum(each["per_class"][name] for each in splits.values() if "per_class" in each)
        for name in val
    }
    off = {name: abs(val[name] / of[name] - dataset.val_fraction) for name in val}
    name = max(off, key=lambda name: off[name])
    if off[name] < _FAR or off[name] * of[name] < 2:
        return []
    return [
        f"val has {val[name]:,} of the {of[name]:,} images of class {quoted(name)}, "
        f"{100 * val[name] / of[name]:.0f}% where dataset.val_fraction asks for "
        f"{100 * dataset.val_fraction:.0f}%: groups stay whole, and it has few or large ones"
    ]


def _fewest(few: Mapping[str, int]) -> str:
    names = sorted(few, key=lambda name: few[name])[:_SHOWN]
    more = f" and {len(few) - _SHOWN} more" * (len(few) > _SHOWN)
    return f"{', '.join(f'{quoted(name)} has {few[name]}' for name in names)}{more}"


def _drawn(table: pa.Table, wanted: Ints, *, seed: int, stream: Stream) -> Rows:
    """Which rows are taken: of each class so many, whole groups of files with one content.

    A group belongs to the class of its first file, and the draw is keyed by its content alone: a
    file that is added, renamed or moved leaves the others where they are, but for the last ones.
    """
    labels, contents = table["label"].to_numpy(), table["content"].to_numpy()
    found, first, group = np.unique(contents, return_index=True, return_inverse=True)
    sizes = np.bincount(group, minlength=len(found))
    words = hashes(seed=seed, epoch=0, stream=stream, indices=found.view(np.int64))[:, 0]
    taken = np.zeros(len(found), bool)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels[first] == label)
        mine = mine[np.argsort(words[mine], kind="stable")]
        before = np.cumsum(sizes[mine]) - sizes[mine]
        taken[mine[:-1][before[:-1] < wanted[label]]] = True  # the last one stays in train
    rows: Rows = taken[group]
    return rows


def _check_both_sides(table: pa.Table, taken: Rows, key: str) -> None:
    """Raise UserError for a class that is all taken from train, or not at all."""
    labels = table["label"].to_numpy()
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        if len(set(taken[mine].tolist())) < 2:
            what, together = "different images", "copies stay together"
            if "group" in table.column_names:
                what, together = "different groups", "a group stays together, and so do copies"
            raise UserError(
                f"dataset.{key}: class {quoted(table['class'][int(mine[0])].as_py())} has too few "
                f"{what} to be in train and in {'val' if key == 'val_fraction' else 'holdout'} "
                f"({together}); add some, or move it away"
            )
