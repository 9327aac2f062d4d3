"""Messages about a wrong configuration, in words about the user's own keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag

_LISTED = 30

Location = tuple[str | int, ...]

MESSAGES = {
    "missing": "is missing",
    "model_type": "give keys and their values",
    "model_attributes_type": "give keys and their values",
    "dict_type": "give names and what belongs to each",
}


def nearest(word: str, known: list[str]) -> str:
    """A hint at the known word closest to `word`, or at all of them where they are not many."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    if match:
        return f" (did you mean '{match[0]}'?)"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= _LISTED else ""


def explain(model: type[BaseModel], problem: Mapping[str, Any]) -> str:
    """One of the problems that pydantic found with the values of `model`, in the user's words."""
    kind: str = problem["type"]
    location: Location = problem["loc"]
    given = problem["input"]
    # pydantic's mark for the name of an entry, where else it would be the entry's value
    named = location[-1:] == ("[key]",) and kind != "extra_forbidden"
    if named:
        location = location[:-2]
    keys, types = _follow(model, location)
    key = ".".join(keys)
    if kind == "extra_forbidden":
        return f"unknown key '{key}'{nearest(keys[-1], _valid_keys(model, location[:-1]))}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = problem["ctx"].get("tag")
        choices = " or ".join(f"'{each}'" for member in types for each in _tags(member))
        shown = "is missing, " if tag is None else f"unknown task '{tag}', "
        return f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}: {shown}give {choices}"
    message = MESSAGES.get(kind, str(problem["msg"]))
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    if named and kind == "string_type":
        message = f"name {given!r} is not read as a string: put it in quotes"
    elif kind != "value_error" and isinstance(given, str | int | float):
        message += f", not {given!r}"
    return f"{key}: {message}" if key else message


def _follow(model: type[BaseModel], location: Location) -> tuple[list[str], list[Any]]:
    """The keys of the user's file that lead to `location`, and the types a value there may have.

    pydantic's location also holds marks of its own, such as the task that was chosen among
    pretrainings; a name that the user gave may look just like one, so only the types tell.
    """
    keys: list[str] = []
    types: list[Any] = [model]
    for part in location:
        if len(types) > 1:
            types = [each for each in types if part in _tags(each)]
        else:
            keys.append(str(part))
            types = _below(types[0], part) if types else []
    return keys, types


def _valid_keys(model: type[BaseModel], location: Location) -> list[str]:
    """Valid keys of the section at `location`."""
    _, types = _follow(model, location)
    return sorted({key for each in types for key in _bare(each).model_fields})


def _below(annotation: Any, part: str | int) -> list[Any]:
    """Types of the value that `part` leads to in a value of the annotated type."""
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        field = bare.model_fields.get(str(part))
        return [] if field is None else _members(field.annotation)
    return [leaf for each in get_args(bare)[-1:] for leaf in _members(each)]


def _members(annotation: Any) -> list[Any]:
    """The members of a union, without None; of any other type the type itself."""
    bare = _bare(annotation)
    if get_origin(bare) in (Union, UnionType):
        return [each for each in get_args(bare) if each is not NoneType]
    return [annotation]


def _tags(annotation: Any) -> list[str]:
    """What stands for a member of a union in pydantic's locations."""
    tags = [each.tag for each in get_args(annotation)[1:] if isinstance(each, Tag)]
    task = getattr(_bare(annotation), "model_fields", {}).get("task")
    return tags if task is None else [*tags, *get_args(task.annotation)]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
