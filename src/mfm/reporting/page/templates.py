"""Templates of the report page, and how names and shares stand in them."""

from __future__ import annotations

import jinja2
from markupsafe import Markup, escape

_ISOLATES = "\N{LEFT-TO-RIGHT ISOLATE}\N{RIGHT-TO-LEFT ISOLATE}\N{FIRST STRONG ISOLATE}"
_END = "\N{POP DIRECTIONAL ISOLATE}"


def environment() -> jinja2.Environment:
    """The page's templates: all that is put into them is text, unless it is markup already."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("mfm.reporting.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"exact": exact, "closed": closed, "share": share}
    return found


def exact(name: str) -> Markup:
    """A name, to be copied from the page as it is: a browser would take a return for a new line."""
    return Markup(escape(name).replace("\r", Markup("&#13;")))


def closed(name: str) -> Markup:
    """A name in a line with other words: what it isolates ends in it, and nothing else does.

    An isolate that a name leaves open takes the end of the element around it for its own, and the
    rest of the line is turned with the name.
    """
    parts, depth = [], 0
    for character in name:
        depth += character in _ISOLATES
        if character == _END:
            if not depth:
                continue
            depth -= 1
        parts.append(character)
    return exact("".join(parts) + _END * depth)


def share(probability: float) -> str:
    """In percent; what is neither 0 nor 1 doesn't look as if it were."""
    if 0 < probability < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= probability < 1 else f"{100 * probability:.0f}%"
