"""Page of the evaluations on other images: the arms compared on each folder, without verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mfm.data.linking.other import SUMMARY, overlaps
from mfm.data.settings import OTHER_SPLIT
from mfm.evaluation import also_evaluations, looks
from mfm.evaluation.also import Settings
from mfm.experiment.layout import other_images_folder
from mfm.experiment.settings import Experiment
from mfm.reporting import further
from mfm.reporting.document import Bold, Bullets, Code, Column, Paragraph, Section, Table, Text
from mfm.reporting.further import MeasuredArm
from mfm.reporting.words import interval, points


@dataclass(frozen=True, kw_only=True)
class OtherImages:
    """A folder of other images, and each model's row on it."""

    name: str
    rows: pd.DataFrame
    summary: dict[str, Any]  # as they were linked
    looks: int  # different experiments that were evaluated on them

    @property
    def is_part(self) -> bool:
        """Whether they are of some of the dataset's classes only."""
        return bool(self.summary["classes"] < self.summary["of_classes"])


def collect(experiment: Experiment) -> pd.DataFrame:
    """The rows of also.csv: the images' name, arm, seed and measures."""
    parts = []
    for evaluation, name in also_evaluations(experiment.evaluate).items():
        part = further.collect(experiment, evaluation)
        part.insert(0, "also", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def read(experiment: Experiment, rows: pd.DataFrame) -> list[OtherImages]:
    """Every folder's rows, with what was found when it was linked."""
    found = []
    for evaluation, name in also_evaluations(experiment.evaluate).items():
        folder = other_images_folder(experiment.dataset.name, evaluation)
        found.append(
            OtherImages(
                name=name,
                rows=rows[rows["also"] == name],
                summary=json.loads(Path(folder, SUMMARY).read_text(encoding="utf-8")),
                looks=looks.count(folder, OTHER_SPLIT),
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class _Line:
    images: OtherImages
    arm: MeasuredArm
    is_first: bool  # of the folder's


def document(experiment: Experiment, found: list[OtherImages]) -> Section:
    """The page: one table, a line a folder and arm, and what each folder is."""
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: {Settings.title}",
        [
            Paragraph(
                "Every finetuned model, evaluated on the images of other folders too: mean of each "
                f"arm with its 95% interval, and the difference from '{experiment.baseline}' on "
                "the same images with its own, computed as in table.md. None of these comparisons "
                "was declared as the question, so there are no verdicts."
            ),
            Table(
                _columns(experiment, any(images.is_part for images in found)),
                [line for images in found for line in _lines(experiment, images)],
            ),
            Bullets([_described(images) for images in found]),
        ],
    )


def _lines(experiment: Experiment, images: OtherImages) -> Iterator[_Line]:
    arms = further.measured_arms(experiment, images.rows)
    for number, arm in enumerate(arms):
        yield _Line(images=images, arm=arm, is_first=number == 0)


def _columns(experiment: Experiment, some_are_part: bool) -> list[Column[_Line]]:
    top1, among_all = Settings().measures()

    def less(line: _Line) -> str:
        found = line.arm.difference(top1.name)
        return "-" if found is None else points(found.mean)

    def interval_of_it(line: _Line) -> str:
        found = line.arm.difference(top1.name)
        return "-" if found is None else interval(found, sign="+")

    def of_all(line: _Line) -> str:
        return f"{line.arm.estimate(among_all.name).mean:z.2f}" if line.images.is_part else "-"

    last = Column(among_all.title, of_all, unit=among_all.unit, description=among_all.description)
    return [
        Column("images", lambda line: Bold(line.images.name) if line.is_first else ""),
        Column("arm", lambda line: line.arm.name),
        Column("n", lambda line: str(len(line.arm.rows)), description="number of finetunings"),
        Column(
            top1.title,
            lambda line: f"{line.arm.estimate(top1.name).mean:z.2f}",
            unit=top1.unit,
            description=top1.description,
        ),
        Column("95% interval", lambda line: interval(line.arm.estimate(top1.name))),
        Column(f"less {experiment.baseline}", less),
        Column("95% interval of it", interval_of_it),
        *([last] if some_are_part else []),
    ]


def _described(images: OtherImages) -> Text:
    """What a folder is: whose images, of which classes, and what to know of them."""
    said = images.summary
    number, classes = f"{said['images']:,}", f"{said['of_classes']:,}"
    if images.is_part:
        part = f"{said['classes']:,}"
        of = f"{part} of the {classes} classes: top-1 is that among these {part}"
    else:
        of = f"all {classes} classes"
    several = f"{images.looks} different experiments have looked at them."
    more = [*overlaps(said), *([several] if images.looks > 1 else [])]
    return (
        Bold(images.name),
        f": {number} images of {of}. Folder ",
        Code(said["folder"]),
        f". {' '.join(more)}".rstrip(),
    )
