"""Messages about a wrong configuration, in words about the user's own keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag

_LISTED = 30
_LONGEST = 100  # characters of a value or a name that are shown
_ALIKE = 0.6  # of 1: words that are less alike are not meant

Location = tuple[str | int, ...]

MESSAGES = {
    "missing": "is missing",
    "model_type": "give keys and their values",
    "model_attributes_type": "give keys and their values",
    "dict_type": "give names and what belongs to each",
    "too_short": "give at least 1",
    "tuple_type": "should be a list",
}
# What other programs call it, and what it is called here.
SAME = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "wd": "weight_decay",
    "momentum": "betas",
    "batch_size": "batch",
    "bs": "batch",
    "num_epochs": "epochs",
    "arch": "backbone",
    "architecture": "backbone",
    "network": "backbone",
    "pretrained": "weights",
    "checkpoint": "weights",
    "path": "source",
    "root": "source",
    "folder": "source",
    "data": "dataset",
    "size": "image_size",
    "img_size": "image_size",
    "resolution": "image_size",
    "label_smoothing": "smoothing",
    "grad_clip": "clip",
    "max_norm": "clip",
    "mask_radius": "radius",
    "gpus": "ranks",
    "devices": "ranks",
    "processes": "ranks",
    "amp": "precision",
    "dtype": "precision",
    "warmup": "warmup_epochs",
    "scheduler": "schedule",
    "output": "results",
    "out": "results",
    "output_dir": "results",
}


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at the known word closest to `word`, or at all of them where they are not many."""
    meant = closest(word, known)
    if meant is not None:
        return f" (did you mean '{meant}'?)"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= _LISTED else ""


def closest(word: str, known: Sequence[str], *, alike: float = _ALIKE) -> str | None:
    """The known word that `word` is most like, large and small letters alike; None: none."""
    by_letters = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), list(by_letters), n=1, cutoff=alike)
    return by_letters[found[0]] if found else None


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
    key = ".".join(_cut(each) for each in keys)
    if kind == "extra_forbidden":
        _, sections = _follow(model, location[:-1])
        return f"unknown key '{key}'{_meant(keys, [_bare(each) for each in sections])}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = problem["ctx"].get("tag")
        choices = " or ".join(f"'{each}'" for member in types for each in _tags(member))
        shown = "is missing, " if tag is None else f"unknown task '{_cut(tag)}', "
        return f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}: {shown}give {choices}"
    message = MESSAGES.get(kind, str(problem["msg"]))
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    if named and kind == "string_type":
        message = f"name {given!r} is not read as a string: put it in quotes"
    elif kind != "value_error" and isinstance(given, str | int | float):
        message += f", not {shown_value(given)}"
    return f"{key}: {message}" if key else message


def shown_value(given: str | int | float) -> str:
    """A value as it was given, unless it is too long to be read."""
    if isinstance(given, int) and abs(given) >= 10**_LONGEST:
        return "a number of far more digits"
    return _cut(repr(given))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}..."


def _meant(keys: Sequence[str], sections: Sequence[type[BaseModel]]) -> str:
    """A hint at the key that an unknown one stands for: here, or in a section below."""
    word, above = keys[-1], keys[:-1]
    valid = sorted({key for each in sections for key in each.model_fields})
    same = SAME.get(word.lower(), word)
    if same in valid:
        return f" (did you mean '{same}'?)"
    here = closest(word, valid)
    below = _below_named(same, sections)
    if here is None and below is not None:
        return f" (did you mean '{'.'.join([*above, below])}'?)"
    return nearest(word, valid)


def _below_named(name: str, sections: Sequence[type[BaseModel]]) -> str | None:
    """The dotted key of that name in the sections below these ones, if there is one."""
    for section in sections:
        for key, field in section.model_fields.items():
            for each in _members(field.annotation):
                inner = _bare(each)
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    found = name if name in inner.model_fields else _below_named(name, [inner])
                    if found is not None:
                        return f"{key}.{found}"
    return None


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
