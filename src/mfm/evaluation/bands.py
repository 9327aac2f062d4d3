"""Accuracy by frequency band: what a model recognises when a band is taken from the images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mfm.evaluation.further import Further, Measure
from mfm.settings.section import Positive

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.evaluation.classifier import Subject


class Settings(Further):
    """Top-1 on low-pass and high-pass images, bands.md."""

    title: ClassVar[str] = "which frequencies does a model need?"

    radii: list[Positive] = Field(
        min_length=1, description="Radii in frequency bins of the evaluated image."
    )

    def measures(self) -> list[Measure]:
        """Low-pass and high-pass top-1 at each radius."""
        return [
            Measure(
                name=f"{band}_{radius:g}",
                title=f"{band}-pass, radius {radius:g}",
                unit="%",
                description=f"top-1 on images that keep the frequencies {where} the radius",
            )
            for band, where in (("low", "inside"), ("high", "outside"))
            for radius in self.radii
        ]

    def measure(self, subject: Subject) -> dict[str, float]:
        """Top-1 in percent."""
        found = {}
        for band in ("low", "high"):
            for radius in self.radii:
                change = partial(_band, radius=radius, low=band == "low")
                found[f"{band}_{radius:g}"] = subject.predict(change).top1
        return found


def _band(images: Tensor, *, radius: float, low: bool) -> Tensor:
    """One band of images [n, 3, H, W] in [0, 1]; high frequencies on the image's mean colour."""
    from mfm.objectives.mfm.frequency import low_pass

    inside = low_pass(images, radius)
    if low:
        return inside.clamp_(0, 1)
    return (images - inside + images.mean(dim=(2, 3), keepdim=True)).clamp_(0, 1)
