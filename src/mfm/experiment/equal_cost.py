"""Training from scratch at equal cost: for as long as another arm with its pretraining.

A pretraining costs time that training from scratch could use too. Time is counted by images shown,
each as often as it has views, and their pixels, because that is known before anything ran and is
the same on every machine: what a step of pretraining costs beside its backbone (the head, the
Fourier transforms) is not counted. The table shows the measured times.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mfm.settings.section import Name, Section


class MadeUpFor(Section):
    """A pretraining whose length training from scratch makes up for."""

    name: Name = Field(description="Its name.")
    split: Literal["train", "pretrain"] = Field(description="Split of its images.")
    batch: int = Field(ge=1, description="Images per optimizer step.")
    epochs: int = Field(ge=1, description="Passes over its images, one for each view of them.")
    size: int = Field(ge=1, description="Side of its training images in pixels.")

    def epochs_more(self, *, images: int, own_images: int, batch: int, size: int) -> int:
        """Epochs of `own_images` of `size` pixels that show as many pixels, rounded; at least one.

        `images` are those of its split.
        """
        pretraining = shown(images, self.batch) * self.size**2 * self.epochs
        return max(1, round(pretraining / (shown(own_images, batch) * size**2)))


def shown(images: int, batch: int) -> int:
    """Images that an epoch shows: the last, incomplete batch is left out, as in training."""
    return images // batch * batch
