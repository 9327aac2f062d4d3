"""Further evaluation: what the settings of every evaluation beside the table's have.

An evaluation is a module of this package whose `Settings` extend `Further`, and a line in
`mfm.evaluation`. Each finetuned model gets a row of its measures; the page of the evaluation
compares the arms on each.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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


class Further(Section):
    """Settings of an evaluation; its own keys come with the subclass."""

    title: ClassVar[str]  # of its page: a question

    @abstractmethod
    def measures(self) -> list[Measure]:
        """What it measures, in the order of the page."""

    @abstractmethod
    def measure(self, subject: Subject) -> dict[str, float]:
        """The measures of one finetuned model, by name; the same on every rank."""
