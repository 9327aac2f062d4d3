"""Sources of initial weights, registered."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

# One line a source: a module beside this one with the functions of `Source`. The first that claims
# a name has it.
SOURCES = (
    "file",
    "torchvision",
)


class Source(Protocol):
    """One place that weights come from; imported without torch."""

    def claims(self, weights: str) -> bool:
        """Whether the name is one of its own."""

    def file(self, weights: str) -> str | None:
        """The file that a finetuning waits for; None where it is fetched first."""

    def check(self, weights: str) -> None:
        """Raise UserError, without loading anything, where there are no such weights."""

    def read(self, weights: str) -> dict[str, Tensor]:
        """The tensors, fetched if need be; raises UserError where they can't be had."""

    def checksum(self, weights: str) -> str:
        """SHA-256, in hexadecimal, of the file that was read; UserError for a damaged one."""


def source_of(weights: str) -> Source:
    """The source that a name of weights belongs to."""
    modules = (cast(Source, import_module(f"{__name__}.{name}")) for name in SOURCES)
    return next(module for module in modules if module.claims(weights))


def is_path(weights: str) -> bool:
    """Whether initial weights name a file of the user's."""
    return source_of(weights).file(weights) is not None
