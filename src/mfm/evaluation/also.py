"""Accuracy on other images of the dataset's classes, or of some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mfm.evaluation.further import Further, Measure

if TYPE_CHECKING:  # settings are read without importing torch
    from mfm.evaluation.classifier import Subject

KEY = "also"


class Settings(Further):
    """Top-1 on other images, also.md; the folder's own manifest says which."""

    title: ClassVar[str] = "does it hold on other images?"

    def measures(self) -> list[Measure]:
        """Among the classes that the images have, and among all of the dataset's."""
        return [
            Measure(
                name="top1",
                title="top-1",
                unit="%",
                description="share of images whose class is scored highest of the classes that "
                "this folder has",
            ),
            Measure(
                name="top1_all",
                title="top-1 among all classes",
                unit="%",
                description="the same, of all classes of the dataset",
            ),
        ]

    def measure(self, subject: Subject) -> dict[str, float]:
        """Both in percent, with the numbers of images and of their classes."""
        found = subject.predict(among_present=True)
        assert found.ranks_among is not None
        return {
            "top1": 100 * float((found.ranks_among == 0).mean()),
            "top1_all": found.top1,
            "images": len(subject.images),
            "classes": len(set(subject.images.labels.tolist())),
        }


def evaluation_of(name: str) -> str:
    """The evaluation on the images that have this name below evaluate.also."""
    return f"{KEY}/{name}"
