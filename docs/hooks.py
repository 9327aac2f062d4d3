"""Pages of the manual that are made from the package itself, when mkdocs builds it."""

from __future__ import annotations

import html
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mfm.__main__ import help_text
from mfm.experiment.settings import Experiment

PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any"}


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page, with what is made in the place of its marker."""
    for name, make in (("settings", settings), ("commands", commands)):
        marker = f"<!-- made by hooks.py: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def commands() -> str:
    """The screen of `mfm --help`."""
    return f"```text\n{help_text()}\n```"


def settings() -> str:
    """A table for each section of an experiment's settings; one that several keys have, once."""
    paths: dict[type[BaseModel], list[str]] = {}
    for path, model in sections("", Experiment):
        paths.setdefault(model, []).append(path)
    parts = []
    for model, found in paths.items():
        keys = ", ".join(f"`{path}`" for path in dict.fromkeys(found) if path)
        about = " ".join((model.__doc__ or "").split("\n\n")[0].split())
        rows = [row(name, field) for name, field in model.model_fields.items()]
        table = ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows]
        heading = f"## {keys or 'The whole experiment'}"
        parts.append("\n".join([heading, "", html.escape(about, quote=False), "", *table]))
    return "\n\n".join(parts)


def sections(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Each section with its dotted key, a section before what is in it."""
    yield path, model
    for name, field in model.model_fields.items():
        found = list(models(field.annotation))
        for each in found:
            key = f"{path}.{name}" if path else name
            if get_origin(field.annotation) is dict:
                key += ".NAME"
            of = kind(each) if len(found) > 1 else ""
            below = iter(sections(key, each))
            yield f"{next(below)[0]}{of}", each
            yield from below


def kind(model: type[BaseModel]) -> str:
    """What tells a section of one kind from others in its place: its task, or its first key."""
    task = model.model_fields.get("task")
    if task is not None:
        return f" (task: {get_args(task.annotation)[0]})"
    own = [name for name in model.model_fields if name != "seeds"]
    return f" ({own[0]})"


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        if not isinstance(part, str):
            yield from models(part)


def row(name: str, field: FieldInfo) -> str:
    """One key."""
    default = "required" if field.is_required() else f"`{value(field.get_default())}`"
    kind_of = f"{type_text(field.annotation)}{limits(field)}"
    meaning = html.escape(field.description or "", quote=False)
    cells = [f"`{name}`", kind_of, default, meaning]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def value(default: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(default, BaseModel):
        return "its own defaults"
    if isinstance(default, bool) or default is None:
        return {True: "true", False: "false", None: "null"}[default]
    if isinstance(default, dict):
        return "{" + ", ".join(f"{key}: {value(part)}" for key, part in default.items()) + "}"
    if isinstance(default, tuple | list):
        return "[" + ", ".join(value(part) for part in default) + "]"
    return f"{default:.6g}" if isinstance(default, float) else str(default)


def limits(field: FieldInfo) -> str:
    """The range of a number."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{word} {getattr(each, name):g}"
        for each in field.metadata
        for name, word in words.items()
        if getattr(each, name, None) is not None
    ]
    return f", {', '.join(found)}" if found else ""


def type_text(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(part) for part in parts))
    if origin is list:
        return f"list of: {type_text(parts[0])}"
    if origin is tuple:
        return f"{len(parts)} numbers"
    if origin is dict:
        return f"names, each with {type_text(parts[1])}"
    return "section"
