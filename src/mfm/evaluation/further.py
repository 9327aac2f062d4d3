"""Further evaluation: what the settings of every evaluation beside the table's have.

An evaluation is a module of this package whose `Settings` extend `Further`, and a line in
`mfm.evaluation`. Each finetuned model gets a row of its measures; the page of the evaluation
compares the arms on each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from mfm.evaluation.settings import Classification
from mfm.settings.section import Section

if TYPE_CHECKING:  # settings are read without importing torch
    from mfm.evaluation.classifier import Subject


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of an evaluation."""

    name: str  # of its column
    title: str  # for people
    unit: str = ""
    description: str = ""
    in_table: bool = True  # of the page; else in figures and in the CSV alone


def clean_top1(images: int | None) -> Measure:
    """Top-1 on the images that changed ones are made of; so many are drawn, or all."""
    which = "all evaluated images" if images is None else f"{images:,} images, drawn by seed"
    return Measure(
        name="clean",
        title="as they are",
        unit="%",
        description=f"top-1 on the images that all others are made of: {which}",
    )


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Measures in a row: their places on an axis, and their names."""

    title: str
    axis: str  # what a place is
    points: Mapping[float, str]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A figure with a curve an arm in each panel, and intervals."""

    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A figure with a map an arm, and one of its difference from the baseline."""

    caption: str
    axes: tuple[str, str]  # what the rows are, and the columns
    cells: Mapping[tuple[float, float], str]  # a measure's name by row and column


Figure: TypeAlias = Curves | Grid


class Further(Section):
    """Settings of an evaluation; its own keys come with the subclass."""

    title: ClassVar[str]  # of its page: a question
    page: ClassVar[str] = ""  # the name of the page's files; '': the evaluation's

    @abstractmethod
    def measures(self) -> list[Measure]:
        """What it measures, in the order of the page."""

    @abstractmethod
    def measure(self, subject: Subject) -> dict[str, float]:
        """The measures of one finetuned model, by name; the same on every rank."""

    def figures(self) -> dict[str, Figure]:
        """Figures of the measures, by the name of their files."""
        return {}

    def check(self, evaluation: Classification) -> None:
        """Raise ValueError for settings that don't fit the evaluated images."""
