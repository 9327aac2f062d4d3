"""Writing of an experiment as YAML: every key, what the settings say of it, and why it is so."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from mfm.experiment.settings import Experiment

_WIDTH = 98
_FIRST = "task"  # of a pretraining: what its other keys are about
_APART = ("arms",)  # whose entries stand in a line each


def to_yaml(experiment: Experiment, *, head: list[str], why: Mapping[str, str]) -> str:
    """The whole file. `why` has the reasons of choices, by dotted keys."""
    lines = [f"# {line}".rstrip() for line in head]
    lines += _Writer(why).section(experiment, "", 0)
    return "\n".join(lines) + "\n"


class _Writer:
    """Lines of sections, in which a key is described the first time that it comes."""

    def __init__(self, why: Mapping[str, str]) -> None:
        self._why = why
        self._described: set[tuple[str, str]] = set()

    def section(self, section: BaseModel, above: str, indent: int) -> Iterator[str]:
        """The keys of a section, and of those in it."""
        fields = type(section).model_fields
        for name in sorted(fields, key=lambda name: name != _FIRST):
            key = f"{above}.{name}" if above else name
            if not indent:
                yield ""
            yield from self._comment(name, fields[name].description or "", key, indent)
            yield from self._value(name, getattr(section, name), key, indent)

    def _comment(self, name: str, description: str, key: str, indent: int) -> Iterator[str]:
        if (name, description) in self._described:
            description = ""
        else:
            self._described.add((name, description))
        why = self._why.get(key, "")
        for text in (description, f"Here: {why}" if why else ""):
            start = " " * indent + "# "
            yield from textwrap.wrap(
                text,
                _WIDTH,
                initial_indent=start,
                subsequent_indent=start,
                break_long_words=False,
                break_on_hyphens=False,
            )

    def _value(self, name: str, value: Any, key: str, indent: int) -> Iterator[str]:
        start = " " * indent
        if isinstance(value, BaseModel):
            yield f"{start}{name}:"
            yield from self.section(value, key, indent + 2)
        elif name in _APART or _has_sections(value):
            yield f"{start}{name}:"
            for each, inner in value.items():
                below = f"{key}.{each}"
                if name in _APART:
                    yield from self._comment(each, "", below, indent + 2)
                    yield f"{start}  {_plain(each)}: {_plain(_short(inner))}"
                else:
                    yield f"{start}  {_plain(each)}:"
                    yield from self.section(inner, below, indent + 4)
        else:
            yield f"{start}{name}: {_plain(value)}"


def _has_sections(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(each, BaseModel) for each in value.values())


def _short(value: Any) -> Any:
    return value.model_dump(exclude_defaults=True) if isinstance(value, BaseModel) else value


def _plain(value: Any) -> str:
    """One value in a line."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()
