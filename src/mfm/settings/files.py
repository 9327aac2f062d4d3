"""Files of settings, YAML or JSON: what they hold, and where one is wrong, by line and column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mfm.errors import UserError, one_line

_ENDINGS = (".yaml", ".yml", ".json")
_TARGET = "; a target goes before --configfile, or after '--'"
_OPENED = {
    "while parsing a flow sequence": "this '[' is not closed by ']' where it should be",
    "while parsing a flow mapping": "this '{' is not closed by '}' where it should be",
    "while scanning a quoted scalar": "this quote is not closed",
    "while scanning a simple key": "this has no ':' after it, as a key has",
}
_PROBLEMS = {
    "mapping values are not allowed here": "a ':' where none can be: put a text that holds one in "
    "quotes, and each key on a line of its own",
    "expected <block end>, but found '}'": "this '}' closes nothing; a text that holds one "
    "needs quotes",
    "expected <block end>, but found ']'": "this ']' closes nothing; a text that holds one "
    "needs quotes",
    "expected <block end>": "this doesn't fit what is above it: another "
    "indentation, or a text that needs quotes",
    "found character '\\t'": "a tab: indent with spaces",
    "found character '%'": "a text that begins with '%' needs quotes",
    "found character '@'": "a text that begins with '@' needs quotes",
    "found character '`'": "a text that begins with '`' needs quotes",
    "found unhashable key": "a list or a section can't be a key",
    "but found another document": "a second document begins; one file holds one",
    "could not determine a constructor": "a tag, which no setting has",
}


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, where the last one would win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, whose keys are compared as written, before any merge."""
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                first = seen.setdefault((key.tag, key.value), key)
                if first is not key:
                    line = first.start_mark.line + 1
                    raise yaml.MarkedYAMLError(
                        problem=f"key '{key.value}' is given twice, first in line {line}",
                        problem_mark=key.start_mark,
                    )
        return node


def read_settings(path: Path) -> dict[str, Any]:
    """The keys and values of a file of settings.

    Raises UserError, with line and column, for a file that isn't UTF-8, isn't YAML, gives a key
    twice, or holds something else than keys and values.
    """
    text = _text(path)
    try:
        if path.suffix == ".json":
            values = json.loads(text, object_pairs_hook=_unique)
        else:
            values = yaml.load(text, Loader=_UniqueKeyLoader)
    except json.JSONDecodeError as error:
        _fail(path, error.msg, error.lineno, error.colno)
    except yaml.MarkedYAMLError as error:
        _fail(path, *_explained(error))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        code = f"U+{error.character:04X}" if isinstance(error.character, int) else "one"
        _fail(path, f"a character that no text has ({code})", *_place(before))
    except RecursionError:
        raise UserError(f"{path}: brackets inside brackets inside brackets, too many") from None
    except ValueError as error:  # a date or a number that is none, or a key of JSON given twice
        raise UserError(f"{path}: {one_line(error).split(';')[0]}") from None
    if values is None:
        _fail(path, "no keys: the file is empty", 1, 1)
    if not isinstance(values, dict):
        kind = {"list": "a list", "str": "a text"}.get(type(values).__name__, "one value")
        _fail(path, f"the file holds {kind}, and has to hold keys and their values", 1, 1)
    return values


def check_settings(paths: Sequence[Path]) -> None:
    """Raise UserError for the first of the files that `read_settings` refuses."""
    for path in paths:
        read_settings(path)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"--configfile: there is no file {path}{_hint(path)}") from None
    except OSError as error:
        raise UserError(
            f"--configfile: {path} can't be read: {error.strerror}{_hint(path)}"
        ) from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode())
        wrong = f"byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
        _fail(path, wrong, line, column)


def _place(before: str) -> tuple[int, int]:
    """Line and column after a text, from 1."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _explained(error: yaml.MarkedYAMLError) -> tuple[str, int, int]:
    """What is wrong, in the words of someone who writes the file, and where."""
    mark, problem = error.problem_mark, error.problem or "this is not YAML"
    words = next((ours for theirs, ours in _PROBLEMS.items() if problem.startswith(theirs)), None)
    opened = _OPENED.get(error.context or "")
    if words is None and opened is not None:
        words, mark = opened, error.context_mark
    if mark is None:
        mark = error.context_mark
    place = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    return words or problem, *place


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key '{key}' is given twice")
        found[key] = value
    return found


def _fail(path: Path, what: str, line: int, column: int) -> NoReturn:
    raise UserError(f"{path}, line {line}, column {column}: {what}{_hint(path)}")


def _hint(path: Path) -> str:
    """Where a file doesn't look like settings: words behind those of --configfile are taken too."""
    return "" if path.suffix.lower() in _ENDINGS else _TARGET
