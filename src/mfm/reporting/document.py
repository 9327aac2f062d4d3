"""Document of a report: text, lists, tables and pictures as data.

A report is a function that returns a `Section`. Each format has one renderer: `render_markdown`,
`render_html`, `render_csv`. A string is text in all of them: what looks like markup in it is shown
as it is, so that classes and files may have any name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar


@dataclass(frozen=True)
class Bold:
    """Text that stands out."""

    text: Text


@dataclass(frozen=True)
class Code:
    """Something to type, or a name of the configuration."""

    text: str


@dataclass(frozen=True)
class Link:
    """A link; a relative address is relative to the document's folder."""

    text: str
    address: str


@dataclass(frozen=True)
class Term:
    """A word, what it means, and where on the page that stands; in Markdown the word alone."""

    text: str
    meaning: str
    address: str


Inline: TypeAlias = str | Bold | Code | Link | Term
Text: TypeAlias = Inline | tuple[Inline, ...]

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table: what it is called, and what it says of a row."""

    name: str
    cell: Callable[[Row], Text]
    unit: str = ""
    description: str = ""

    @property
    def head(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def of(self, **known: str) -> Column[Row]:
        """The column with what its words leave open: 'less {baseline}'."""
        name, unit = self.name.format(**known), self.unit.format(**known)
        return replace(self, name=name, unit=unit, description=self.description.format(**known))


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Columns, and the rows that they speak of."""

    columns: Sequence[Column[Row]]
    rows: Sequence[Row]

    def cells(self) -> list[list[Text]]:
        """The cells of each row."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list; a list among its items belongs to the item before it."""

    items: Sequence[Text | Bullets]


@dataclass(frozen=True)
class Listing:
    """Lines of code."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture file, relative to the document's folder, and what it shows."""

    path: str
    caption: str
    width: int = 760  # in pixels, where there is room


@dataclass(frozen=True)
class Section:
    """A heading and what is below it; the outermost one is the document."""

    title: Text
    blocks: Sequence[Block]


Block: TypeAlias = Section | Paragraph | Bullets | Table[Any] | Listing | Picture


def parts_of(text: Text) -> tuple[Inline, ...]:
    """The parts of a text."""
    return text if isinstance(text, tuple) else (text,)


def plain(text: Text) -> str:
    """The text alone."""
    return "".join(_plain(part) for part in parts_of(text))


def _plain(part: Inline) -> str:
    if isinstance(part, str):
        return part
    return plain(part.text)


# Controls that turn the text after them, however far: a name may hold one, and not end it.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def upright(text: str) -> str:
    """The text with what would turn its surroundings written out; its letters keep their way."""
    return _TURNS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def joined(texts: Sequence[Text], by: str) -> Text:
    """Texts in a row, with a separator between them."""
    found: list[Inline] = []
    for number, text in enumerate(texts):
        found += [by] if number else []
        found += parts_of(text)
    return tuple(found)
