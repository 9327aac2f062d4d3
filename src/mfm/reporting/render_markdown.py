"""Markdown of a document, as GitHub reads it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from mfm.reporting.document import (
    Block,
    Bold,
    Bullets,
    Code,
    Inline,
    Link,
    Listing,
    Paragraph,
    Picture,
    Section,
    Table,
    Term,
    Text,
    parts_of,
    upright,
)

# Where a character is markup. Others stay: an underscore inside a word, a lone star or bracket.
_MARKUP = re.compile(
    r"""
    [`|~$]
    | \*(?=\S) | (?<=\S)\*
    | (?<![^\W_])_ | _(?![^\W_])    # at a word's edge
    | \](?=[(\[:])                  # of a link
    | <(?=[A-Za-z/!?])              # of HTML
    | &(?=\#?\w+;)
    | \\(?=[!-/:-@\[-`{-~]|$)
    """,
    re.VERBOSE,
)
_AT_START = re.compile(r"^([-+](?=[\s-]|$)|\*(?=\s|$)|#|>)|^(\d+)([.)])(?=\s|$)")
_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def to_markdown(document: Section) -> str:
    """The whole document."""
    return "\n\n".join(_blocks(document, level=1)) + "\n"


def _blocks(block: Block, *, level: int) -> list[str]:
    match block:
        case Section():
            inside = [text for each in block.blocks for text in _blocks(each, level=level + 1)]
            title = re.sub(r"#+$", r"\\\g<0>", inline(block.title).strip())  # that would end it
            return [f"{'#' * min(6, level)} {title}", *inside]
        case Paragraph():
            return [_not_a_list(inline(block.text))]
        case Bullets():
            return ["\n".join(_bullets(block, ""))] if block.items else []
        case Table():
            return ["\n".join(_table(block))]
        case Listing():
            return [f"```{block.language}\n{block.text}\n```"]
        case Picture():
            return [f"![{_link_text(block.caption)}]({_address(block.path)})"]


def _bullets(block: Bullets, indent: str) -> list[str]:
    lines = []
    for item in block.items:
        if isinstance(item, Bullets):
            lines += _bullets(item, f"{indent}  ")
        else:
            lines.append(f"{indent}- {_not_a_list(inline(item))}")
    return lines


def _table(table: Table[Any]) -> list[str]:
    heads = [_escaped(column.head) for column in table.columns]
    cells = [[inline(cell, in_table=True) for cell in row] for row in table.cells()]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def inline(text: Text, *, in_table: bool = False) -> str:
    """A text; in a table's cell, code has its bars escaped too."""
    return "".join(_inline(part, in_table=in_table) for part in parts_of(text))


def _inline(part: Inline, *, in_table: bool) -> str:
    match part:
        case str():
            return _escaped(part)
        case Term():
            return _escaped(part.text)
        case Bold():
            text = inline(part.text, in_table=in_table)
            inside = text.strip()  # stars beside a space are no markup
            return text.replace(inside, f"**{inside}**") if inside else text
        case Code():
            return _code(part.text, in_table=in_table)
        case Link():
            if part.text == part.address and part.address.startswith("https://"):
                return part.address  # which becomes a link by itself
            return f"[{_link_text(part.text)}]({_address(part.address)})"


def _escaped(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found[0]}", _BREAKS.sub(" ", upright(text)))


def _link_text(text: str) -> str:
    return re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", _escaped(text))


def _not_a_list(text: str) -> str:
    """The beginning of a line, so that it is no heading, list or quotation."""
    return _AT_START.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", text.strip())


def _code(text: str, *, in_table: bool) -> str:
    text = _BREAKS.sub(" ", upright(text))
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    shown = text.replace("|", "\\|") if in_table else text
    return f"{fence}{pad}{shown}{pad}{fence}"


def _address(address: str) -> str:
    return quote(address, safe="/:#?=&%~@+,;!$'*")
