"""Task of a training: what its settings build, and what the loop trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mfm.data.settings import RandAugment
from mfm.models.settings import Model
from mfm.numerics.draws import Ints

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor, nn

    from mfm.data.loading.batches import Batch
    from mfm.data.loading.order import Step


class Objective(Protocol):
    """Loss of a step."""

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """Sum over the micro-batch's images, divided by the whole step's weight: a scalar.

        So that neither accumulation nor the number of ranks changes a gradient.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a task is built for."""

    model: Model  # the network's settings
    size: int  # side of a training image in pixels
    classes: int  # of the training images; 0 without labels
    rows: Ints  # [images] manifest rows of the training images: what random draws are keyed by
    seed: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """A network with its first weights, and what it is trained by."""

    model: nn.Module
    backbone: nn.Module  # the part that other runs may start from; may be the whole model
    objective: Objective
    mixes: bool = False  # whether the objective mixes images in pairs
    randaugment: RandAugment | None = None
