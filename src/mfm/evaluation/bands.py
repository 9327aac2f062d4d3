"""Accuracy by frequency: what a model recognises without a band of it, and with noise at one."""

from __future__ import annotations

from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from mfm.evaluation.further import Curves, Figure, Further, Grid, Measure, Panel, clean_top1
from mfm.evaluation.settings import Classification
from mfm.numerics.draws import Ints
from mfm.settings.section import Positive, Section, different

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.evaluation.classifier import Change, Subject

_BANDS = {"low": "inside", "high": "outside"}
Frequency = Annotated[int, Field(ge=0)]


class Waves(Section):
    """Fourier heat map: accuracy with a wave of one frequency added (arXiv 1906.08988)."""

    norm: Positive = Field(
        description="Euclidean norm of a channel's wave, of pixels in [0, 1]; the paper's are 4 at "
        "32 px and 15.7 at 224 px."
    )
    frequencies: Annotated[list[Frequency], Field(min_length=1), AfterValidator(different)] = Field(
        description="Frequencies along each side, in bins of the evaluated image, up to half of "
        "it; one evaluation for each pair of them and of their signs."
    )

    def pairs(self) -> list[tuple[int, int]]:
        """Frequencies (down, across), each once: its mirror (-down, -across) is the same wave."""
        return [
            (sign * down, across)
            for down in sorted(self.frequencies)
            for across in sorted(self.frequencies)
            for sign in ((1, -1) if down and across else (1,))
        ]


class Settings(Further):
    """Top-1 on low-pass and high-pass images, and on images with waves, bands.md."""

    title: ClassVar[str] = "which frequencies does a model need?"

    radii: Annotated[list[Positive], Field(min_length=1), AfterValidator(different)] = Field(
        description="Radii in frequency bins of the evaluated image."
    )
    waves: Waves | None = Field(
        None,
        description="Fourier heat map: accuracy with a wave of one frequency added; null: off.",
    )
    images: int | None = Field(
        None, ge=1, description="Evaluated images, at most, drawn by seed; null: all."
    )

    def check(self, evaluation: Classification) -> None:
        """Refuse waves that the pixels are too few for."""
        highest = evaluation.crop // 2
        if self.waves is not None and (largest := max(self.waves.frequencies)) > highest:
            raise ValueError(
                f"waves.frequencies: {largest} is above {highest}, the highest frequency of images "
                f"of {evaluation.crop} px"
            )

    def measures(self) -> list[Measure]:
        """The whole image, means over radii and waves, and every single one."""
        means = [
            Measure(
                name=band,
                title=f"{band}-pass, mean",
                unit="%",
                description="mean of top-1 over the radii: images keep the frequencies "
                f"{where} a radius",
            )
            for band, where in _BANDS.items()
        ]
        single = [
            Measure(
                name=_band_name(band, radius),
                title=f"{band}-pass, radius {radius:g}",
                unit="%",
                in_table=False,
            )
            for band in _BANDS
            for radius in self.radii
        ]
        if self.waves is not None:
            means.append(
                Measure(
                    name="wave",
                    title="a wave added, mean",
                    unit="%",
                    description="mean of top-1 over the frequencies of a wave that is added",
                )
            )
            single += [
                Measure(name=_wave_name(pair), title=f"wave {pair}", unit="%", in_table=False)
                for pair in self.waves.pairs()
            ]
        return [clean_top1(self.images), *means, *single]

    def measure(self, subject: Subject) -> dict[str, float]:
        """Top-1 in percent."""
        from mfm.evaluation.waves import add_wave

        changes: dict[str, Change | None] = {"clean": None}
        groups = {
            band: {
                _band_name(band, radius): partial(_band, radius=radius, low=band == "low")
                for radius in self.radii
            }
            for band in _BANDS
        }
        if self.waves is not None:
            groups["wave"] = {
                _wave_name(pair): partial(add_wave, frequency=pair, norm=self.waves.norm)
                for pair in self.waves.pairs()
            }
        for group in groups.values():
            changes |= group
        single = subject.drawn(self.images).top1(changes)
        means = {name: fmean(single[each] for each in group) for name, group in groups.items()}
        return {"clean": single.pop("clean"), **means, **single}

    def figures(self) -> dict[str, Figure]:
        """Accuracy over the radius, and the heat maps."""
        found: dict[str, Figure] = {
            "bands": Curves(
                caption="Top-1 accuracy over the radius in frequency bins, with 95% intervals: on "
                "images that keep the frequencies inside it (low-pass), and on those that keep the "
                "ones outside it (high-pass).",
                panels=[
                    Panel(
                        title=f"{band}-pass",
                        axis="radius (frequency bins)",
                        points={radius: _band_name(band, radius) for radius in sorted(self.radii)},
                    )
                    for band in _BANDS
                ],
            )
        }
        if self.waves is not None:
            cells: dict[tuple[float, float], str] = {}
            for down, across in self.waves.pairs():
                for sign in (1, -1):  # a wave and its mirror are the same
                    cells[sign * down, sign * across] = _wave_name((down, across))
            found["waves"] = Grid(
                caption=f"Fourier heat map: top-1 accuracy with a wave of norm {self.waves.norm:g} "
                "added to each image, by its frequency; the zero frequency is in the middle.",
                axes=("frequency down (bins)", "frequency across (bins)"),
                cells=cells,
            )
        return found


def _band_name(band: str, radius: float) -> str:
    return f"{band}_{radius:g}"


def _wave_name(frequency: tuple[int, int]) -> str:
    return f"wave_{frequency[0]}_{frequency[1]}"


def _band(images: Tensor, rows: Ints, *, radius: float, low: bool) -> Tensor:
    """One band of images [n, 3, H, W] in [0, 1]; high frequencies on the image's mean colour."""
    from mfm.objectives.mfm.frequency import low_pass

    inside = low_pass(images, radius)
    if low:
        return inside.clamp_(0, 1)
    return (images - inside + images.mean(dim=(2, 3), keepdim=True)).clamp_(0, 1)
