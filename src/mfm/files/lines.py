r"""Names as text of one line: what would break a line is escaped, and read back exactly.

A backslash and every character at which a line could end are written as in Python: `\\`, `\n`,
`\x85`, `\u2028`. All other names stand as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mfm.files.atomic import write_text

_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_ESCAPED = re.compile(rf"[\\{_BREAKS}]")
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|.)")
_SHOWN = 5


def write_lines(path: Path, texts: Iterable[str]) -> None:
    """One line a text."""
    write_text(path, "".join(f"{escaped(text)}\n" for text in texts))


def read_lines(path: Path) -> list[str]:
    """The texts that `write_lines` wrote."""
    return [unescaped(line) for line in path.read_text(encoding="utf-8").splitlines()]


def escaped(text: str) -> str:
    """The text on one line."""
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def unescaped(line: str) -> str:
    """The text of a line."""
    return _ESCAPE.sub(lambda found: found[0].encode().decode("unicode_escape"), line)


def shown(name: str | os.PathLike[str]) -> str:
    """A file's name for people: with what can't be printed, or isn't UTF-8, escaped."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def few(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(texts) - _SHOWN} more" * (len(texts) > _SHOWN)
    return f"{', '.join(texts[:_SHOWN])}{more}"
