"""Pretraining tasks, registered."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mfm.objectives.pretext import Pretext

# One line a module or package beside this one: `Settings` is a task's class, or several's union.
TASKS = (
    "mfm",
    "restoration",
    "masking",
    "simclr",
    "supervised",
)

if TYPE_CHECKING:
    from mfm.objectives.mfm.task import MaskedFrequencyModeling

    Pretraining = Pretext  # nothing needs to know more
else:
    _settings = [import_module(f"{__name__}.{task}").Settings for task in TASKS]
    Pretraining = Annotated[reduce(or_, _settings), Field(discriminator="task")]


def __getattr__(name: str) -> Any:
    """`mfm.objectives.MaskedFrequencyModeling`, which needs torch: settings are read without."""
    if name == "MaskedFrequencyModeling":
        from mfm.objectives.mfm.task import MaskedFrequencyModeling

        return MaskedFrequencyModeling
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["TASKS", "MaskedFrequencyModeling", "Pretext", "Pretraining"]
