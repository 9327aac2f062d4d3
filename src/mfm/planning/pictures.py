"""Pictures of a user's folder, as the workflow will link them: numbers, sizes, kinds, faults."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mfm.data.folders import left_out
from mfm.data.linking.link import link
from mfm.data.linking.manifest import NAME, count
from mfm.data.linking.scan import SCAN
from mfm.data.pictures.windows import NothingMeasuredError
from mfm.data.settings import Dataset
from mfm.data.sources.named import OWNER, source_of
from mfm.errors import UserError
from mfm.experiment.layout import dataset_folder
from mfm.planning.kinds import ask_to_be_turned, channels_of, some_of
from mfm.planning.layouts import Layout
from mfm.reporting.dataset import facts
from mfm.reporting.dataset_text import warnings
from mfm.reporting.document import plain

# Of a folder without val: a fifth, and of few images more, up to half.
SHARE, ENOUGH, MOST = 0.2, 100, 0.5
_SIXTEEN_BITS = (0.0, 65535.0)
_WHILE_COUNTING = 0.4  # leaves two images of each class on both sides where any share does


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What there is to train and measure on."""

    dataset: Dataset
    images: dict[str, int]  # by split: train, val, and pretrain where some are unlabelled
    per_class: dict[str, int]  # of train
    side: int  # median short side of a training image in pixels
    sides: tuple[int, int]  # the shortest and the longest short side
    jpegs: float  # share of them
    report: dict[str, Any]  # what `mfm.reporting.dataset.facts` found

    @property
    def unlabelled(self) -> bool:
        """Whether pretrainings have images of their own."""
        return "pretrain" in self.images

    @property
    def groups(self) -> int:
        """How many the evaluation images are of, where they have some."""
        found: int = self.report["splits"]["val"].get("groups", 0)
        return found

    @property
    def pretraining_images(self) -> int:
        """Images that a pretraining without labels sees in an epoch."""
        return self.images.get("pretrain", self.images["train"])

    @cached_property
    def kinds(self) -> str:
        """Formats and modes of the training images, the most frequent first."""
        split = self.report["splits"]["train"]
        return ", ".join([*split["formats"], *split["modes"]])

    def remarks(self, image_size: int) -> list[str]:
        """What may spoil a comparison on them, a line each: first what is left out."""
        lines = [plain(line) for line in warnings(self.report | {"image_size": image_size})]
        return sorted(lines, key=lambda line: "left out" not in line)


def look(layout: Layout, name: str, work: Path) -> Pictures:
    """Link them in `work`, which is the dataset's folder for a measurement, and count.

    Every file is read once: the workflow finds what was read in data/<name>.

    Raises UserError for what is wrong with them, unless it is a bad image among others.
    """
    kept = dataset_folder(name)
    _copy(kept / SCAN, work)
    some = some_of(layout.source)
    dataset = Dataset(
        name=name,
        source=str(layout.source),
        labels=None if layout.labels is None else str(layout.labels),
        unlabelled=None if layout.unlabelled is None else str(layout.unlabelled),
        val_fraction=None if layout.has_val else _WHILE_COUNTING,
        on_bad_image="skip",
        scale="percentile",
        exif="apply" if ask_to_be_turned(some) else "ignore",
        channels=channels_of(some),
    )
    with redirect_stdout(io.StringIO()), _telling_of(kept, work):
        dataset = _linked(dataset, work)
        if not layout.has_val:  # the number of images is known now
            dataset = _linked(dataset.model_copy(update={"val_fraction": _fraction(work)}), work)
    _copy(work / SCAN, kept)
    _copy(work / left_out.NAME, kept)
    report = facts(dataset, work / NAME)
    if not any(line.startswith("Unreadable") for line in map(plain, warnings(report))):
        dataset = dataset.model_copy(update={"on_bad_image": "error"})
    if report["window"] is None:  # all of 8 bits
        dataset = dataset.model_copy(update={"scale": None})
    table = pq.read_table(work / NAME, columns=["split", "width", "height"])
    is_train = np.array(table["split"].to_pylist()) == "train"
    sides = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())[is_train]
    splits = report["splits"]
    train = splits["train"]
    return Pictures(
        dataset=dataset,
        images={name: each["images"] for name, each in splits.items()},
        per_class=_per_class(work),
        side=int(np.median(sides)),
        sides=(int(sides.min()), int(sides.max())),
        jpegs=train["formats"].get("JPEG", 0) / train["images"],
        report=report,
    )


def _linked(dataset: Dataset, work: Path) -> Dataset:
    """The dataset as it could be linked: where training images have 8 bits, and others 16."""
    try:
        link(dataset, work)
    except NothingMeasuredError as error:
        if not all(mode.startswith("I;16") or mode.endswith(" uint16") for mode in error.modes):
            raise
        dataset = dataset.model_copy(update={"scale": _SIXTEEN_BITS})
        link(dataset, work)
    return dataset


@contextmanager
def _telling_of(kept: Path, work: Path) -> Iterator[None]:
    """Where linking fails, keep the list of what can't be read, since the error names it."""
    try:
        yield
    except UserError as error:
        _copy(work / left_out.NAME, kept)
        raise UserError(str(error).replace(str(work), str(kept))) from None


def _copy(file: Path, folder: Path) -> None:
    """Where it can be done: what isn't there is made again."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)


def _fraction(work: Path) -> float:
    """Share of the linked images that val is to be: a fifth, and more of few."""
    total = sum(count(work / NAME, split) for split in ("train", "val"))
    return min(MOST, max(SHARE, ceil(100 * ENOUGH / total) / 100))


def _per_class(work: Path) -> dict[str, int]:
    summary = json.loads((work / "summary.json").read_text(encoding="utf-8"))
    found: dict[str, int] = summary["splits"]["train"]["per_class"]
    return found


def free_name(wanted: str, source: Path) -> str:
    """A name for the dataset that no other source has, in plain letters."""
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "-" for c in wanted)
    stem = letters.strip("-.")[:60] or "images"
    dataset = Dataset(name="new", source=str(source))
    number, name = 1, stem
    while True:
        owner = dataset_folder(name) / OWNER
        if not owner.exists() or owner.read_text(encoding="utf-8").strip() == source_of(dataset):
            return name
        number += 1
        name = f"{stem}-{number}"
