"""Sources of initial weights, registered."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from mfm.models.origin import Origin

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

# One line a source: a module beside this one with the functions of `Source`. The first that claims
# a name has it.
SOURCES = (
    "timm",
    "file",
    "torchvision",
)


class Source(Protocol):
    """One place that weights come from; imported without torch.

    It may also have `origin(weights)`, what is known of them beside their tensors, and
    `expected(weights)`, their tensors without numbers (on torch's device 'meta'), which tell before
    anything is fetched whether they fit.
    """

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


def origin_of(weights: str) -> Origin:
    """What their source knows of them, which may take torch's import."""
    find: Callable[[str], Origin] | None = getattr(source_of(weights), "origin", None)
    return Origin() if find is None else find(weights)


def expected_of(weights: str) -> dict[str, Tensor] | None:
    """Their tensors without numbers, before they are fetched; None where the source can't tell."""
    find: Callable[[str], dict[str, Tensor] | None] | None = getattr(
        source_of(weights), "expected", None
    )
    return None if find is None else find(weights)
