"""Templates of the report page, and how names and shares stand in them."""

from __future__ import annotations

import jinja2
from markupsafe import Markup, escape


def environment() -> jinja2.Environment:
    """The page's templates: all that is put into them is text, unless it is markup already."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("mfm.reporting.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"exact": exact, "share": share}
    return found


def exact(name: str) -> Markup:
    """A name, to be copied from the page as it is: a browser would take a return for a new line."""
    return Markup(escape(name).replace("\r", Markup("&#13;")))


def share(probability: float) -> str:
    """In percent; what is neither 0 nor 1 doesn't look as if it were."""
    if 0 < probability < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= probability < 1 else f"{100 * probability:.0f}%"
