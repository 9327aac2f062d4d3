"""HTML of a document that needs no other file: text is escaped, pictures are in the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

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
from mfm.reporting.inline_svg import inline_svg

_KINDS = {".svg", ".png"}
_NOTHING = Markup("")


def to_html(blocks: Sequence[Block], *, folder: Path, level: int) -> Markup:
    """Blocks of a document; pictures are read from `folder`, headings begin at `level`.

    A wide table or picture scrolls in a box of its own.
    """
    return Markup("\n").join(_block(block, folder=folder, level=level) for block in blocks)


def _block(block: Block, *, folder: Path, level: int) -> Markup:
    match block:
        case Section():
            head = Markup("<h{0}>{1}</h{0}>\n").format(min(6, level), inline(block.title))
            return head + to_html(block.blocks, folder=folder, level=level + 1)
        case Paragraph():
            return Markup("<p>{}</p>").format(inline(block.text))
        case Bullets():
            return _bullets(block) if block.items else _NOTHING
        case Table():
            return _table(block)
        case Listing():
            return Markup('<pre class="scroll">{}</pre>').format(block.text)
        case Picture():
            return _picture(block, folder)


def inline(text: Text) -> Markup:
    """A text."""
    return _NOTHING.join(_inline(part) for part in parts_of(text))


def _inline(part: Inline) -> Markup:
    match part:
        case str():
            return escape(upright(part))
        case Bold():
            return Markup("<strong>{}</strong>").format(inline(part.text))
        case Code():
            return Markup("<code>{}</code>").format(upright(part.text))
        case Link():
            return Markup('<a href="{}">{}</a>').format(part.address, part.text)
        case Term():
            return Markup('<a class="term" href="{}" title="{}">{}</a>').format(
                part.address, part.meaning, part.text
            )


def _bullets(block: Bullets) -> Markup:
    items: list[Markup] = []
    for item in block.items:
        if isinstance(item, Bullets):
            above = items.pop() if items else _NOTHING
            items.append(above + _bullets(item))
        else:
            items.append(inline(item))
    return Markup("<ul>{}</ul>").format(
        _NOTHING.join(Markup("<li>{}</li>\n").format(item) for item in items)
    )


def _table(table: Table[Any]) -> Markup:
    heads = _NOTHING.join(
        Markup('<th title="{}">{}</th>').format(column.description, column.head)
        if column.description
        else Markup("<th>{}</th>").format(column.head)
        for column in table.columns
    )
    rows = Markup("\n").join(
        Markup("<tr>{}</tr>").format(
            _NOTHING.join(Markup("<td>{}</td>").format(inline(cell)) for cell in cells)
        )
        for cells in table.cells()
    )
    return Markup(
        '<div class="scroll"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n'
        "</table></div>{}"
    ).format(heads, rows, _meanings(table))


def _meanings(table: Table[Any]) -> Markup:
    """What the columns' heads say under a pointer, for who has none."""
    said = [(column.head, column.description) for column in table.columns if column.description]
    if not said:
        return _NOTHING
    return Markup(
        '\n<details class="columns"><summary>What the columns are</summary>\n<dl>{}</dl></details>'
    ).format(
        _NOTHING.join(Markup("<dt>{}</dt><dd>{}</dd>").format(head, text) for head, text in said)
    )


def _picture(picture: Picture, folder: Path) -> Markup:
    path = folder / picture.path
    if path.suffix not in _KINDS or not path.is_file():
        # Nothing that a browser would ask a network or a disk for.
        return Markup("<p>[{}]</p>").format(picture.caption)
    name = f"picture-{Path(picture.path).with_suffix('').as_posix().replace('/', '-')}"
    return Markup(
        '<figure id="{name}" style="--width: {width}px">\n<div class="scroll">{drawn}</div>\n'
        "<figcaption>{caption}</figcaption>\n</figure>"
    ).format(
        name=name,
        width=picture.width,
        drawn=inline_svg(path, label=picture.caption)
        if path.suffix == ".svg"
        else Markup('<img src="{}" alt="{}">').format(_data(path), picture.caption),
        caption=picture.caption,
    )


def _data(path: Path) -> str:
    """A picture's content as an address."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
