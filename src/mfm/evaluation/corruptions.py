"""Robustness: accuracy on the evaluation images with noise, blur and the like, by severity."""

from __future__ import annotations

from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from mfm.evaluation.further import Curves, Figure, Further, Measure, Panel, clean_top1
from mfm.settings.section import different

if TYPE_CHECKING:  # settings are read without importing torch
    from mfm.evaluation.classifier import Change, Subject

Kind = Literal["noise", "blur", "contrast", "brightness", "jpeg", "pixelation"]
Severity = Annotated[int, Field(ge=1, le=5)]
_NAMES = {"jpeg": "JPEG"}


class Settings(Further):
    """Top-1 on corrupted images, robustness.md."""

    title: ClassVar[str] = "does it recognise corrupted images?"
    page: ClassVar[str] = "robustness"

    kinds: Annotated[list[Kind], Field(min_length=1), AfterValidator(different)] = Field(
        ["noise", "blur", "contrast", "brightness", "jpeg", "pixelation"],
        description="Kinds of corruption.",
    )
    severities: Annotated[list[Severity], Field(min_length=1), AfterValidator(different)] = Field(
        [1, 2, 3, 4, 5], description="Severities of each, from 1 to 5."
    )
    images: int | None = Field(
        None, ge=1, description="Evaluated images, at most, drawn by seed; null: all."
    )

    def measures(self) -> list[Measure]:
        """The clean accuracy, means over severities and over all, and every single one."""
        means = [
            Measure(
                name=kind,
                title=f"{_NAMES.get(kind, kind)}, mean",
                unit="%",
            )
            for kind in self.kinds
        ]
        single = [
            Measure(
                name=f"{kind}_{severity}",
                title=f"{_NAMES.get(kind, kind)}, severity {severity}",
                unit="%",
                in_table=False,
            )
            for kind in self.kinds
            for severity in self.severities
        ]
        return [
            clean_top1(self.images),
            Measure(
                name="corrupted",
                title="all corruptions, mean",
                unit="%",
                description="mean of top-1 over kinds and severities "
                f"({_listed(self.severities)}); that of a kind is over severities",
            ),
            *means,
            *single,
        ]

    def measure(self, subject: Subject) -> dict[str, float]:
        """Top-1 in percent."""
        from mfm.evaluation.corrupt import corrupt

        changes: dict[str, Change | None] = {"clean": None}
        for kind in self.kinds:
            for severity in self.severities:
                change = partial(corrupt, kind=kind, severity=severity)
                changes[f"{kind}_{severity}"] = change
        single = subject.drawn(self.images).top1(changes)
        means = {
            kind: fmean(single[f"{kind}_{severity}"] for severity in self.severities)
            for kind in self.kinds
        }
        return {
            "clean": single.pop("clean"),
            "corrupted": fmean(means.values()),
            **means,
            **single,
        }

    def figures(self) -> dict[str, Figure]:
        """Accuracy over severity, a panel a kind; 0 are the images as they are."""
        severities = sorted(self.severities)
        panels = [
            Panel(
                title=_NAMES.get(kind, kind),
                axis="severity",
                points={0: "clean", **{each: f"{kind}_{each}" for each in severities}},
            )
            for kind in self.kinds
        ]
        caption = "Top-1 accuracy over the severity of each corruption, with 95% intervals; "
        return {"robustness": Curves(caption=f"{caption}0: none.", panels=panels)}


def _listed(severities: list[int]) -> str:
    return ", ".join(map(str, sorted(severities)))
