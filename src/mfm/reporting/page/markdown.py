"""Markdown of the pipeline's own pages as HTML that needs no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_PLAIN_LINK = re.compile(r"(?<![(<\[\"])\bhttps?://[^\s|)>]*[^\s|)>.,;:]")


def to_html(text: str, *, folder: Path, deeper: int = 1) -> Markup:
    """Render a page; images are read from `folder`, headings are made `deeper` levels smaller.

    HTML in the text is shown as text. Tables can be scrolled sideways and, with a little script,
    sorted.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_PLAIN_LINK.sub(r"<\g<0>>", text))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + deeper)}"
        for child in token.children or []:
            if child.type == "image":
                _inline(child, folder)
    html = str(parser.renderer.render(_scrolled(tokens), parser.options, {}))
    # Markdown's own output: what was text in it is escaped.
    return Markup(html)


def data_uri(path: Path) -> str:
    """A picture's content as an address."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES[path.suffix]};base64,{content}"


def _inline(image: Token, folder: Path) -> None:
    path = folder / str(image.attrs["src"])
    if path.suffix in _TYPES and path.is_file():
        image.attrs["src"] = data_uri(path)
    else:  # nothing that a browser would ask a network or a disk for
        image.type, image.tag, image.content = "text", "", f"[{image.content}]"


def _scrolled(tokens: Sequence[Token]) -> list[Token]:
    found = []
    for token in tokens:
        if token.type == "table_open":
            found.append(Token("scroll_open", "div", 1, attrs={"class": "scroll"}))
        found.append(token)
        if token.type == "table_close":
            found.append(Token("scroll_close", "div", -1))
    return found
