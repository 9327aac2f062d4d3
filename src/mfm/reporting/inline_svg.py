"""Inlining of an SVG file into a page: drawn shapes and their texts, and nothing that could act.

The file is parsed, and only elements and attributes that matplotlib draws with are written again.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET  # entities are no danger: expat bounds what they grow to
from pathlib import Path

from markupsafe import Markup

from mfm.files.marks import LINK, SVG

_SHAPES = {"path", "use", "image", "rect", "circle"}
_ELEMENTS = {"g", "defs", "clipPath", "title", *_SHAPES}
_NUMBERS = {"x", "y", "width", "height", "cx", "cy", "r", "d", "transform", "viewBox", "opacity"}
_ATTRIBUTES = {"fill", "style", "clip-path", "clip-rule", "fill-rule", "data-arm", *_NUMBERS}
_OWN = re.compile(r"url\(#([\w.-]+)\)")  # a reference to something in the same file
_VALUE = re.compile(r"(?!.*url)[\w\s#%.,:;()+-]*", re.IGNORECASE | re.DOTALL)  # without another
_PICTURE = "data:image/png;base64,"


def inline_svg(path: Path, *, label: str) -> Markup:
    """The drawing of a file, described by `label`; ids are the file's own in a page of many.

    What says something (`<title>`) is an image of its own to a screen reader.
    """
    content = path.read_bytes()
    root = ET.fromstring(content)
    used = {found for each in root.iter() for found in _references(each)}
    own = hashlib.sha256(content).hexdigest()[:8]
    ids = {each: f"i{own}-{number}" for number, each in enumerate(sorted(used), 1)}
    inside = _inside(root, ids)
    role = "group" if "<title>" in inside else "img"
    return Markup('<svg viewBox="{}" role="{}" aria-label="{}">{}</svg>').format(
        root.get("viewBox"), role, label, inside
    )


def _references(element: ET.Element) -> list[str]:
    found = [each for value in element.attrib.values() for each in _OWN.findall(value)]
    address = element.get(f"{{{LINK}}}href", "")
    return [*found, address[1:]] if address.startswith("#") else found


def _inside(element: ET.Element, ids: dict[str, str]) -> Markup:
    return Markup("").join(_written(each, ids) for each in element)


def _written(element: ET.Element, ids: dict[str, str]) -> Markup:
    tag = element.tag.removeprefix(f"{{{SVG}}}")
    if tag not in _ELEMENTS:
        return Markup("")
    if tag == "title":
        return Markup("<title>{}</title>").format(element.text or "")
    inside = _inside(element, ids)
    if not inside and tag not in _SHAPES:
        return inside
    attributes = {**_plain(element, ids), **_linked(element, ids)}
    if element.find(f"{{{SVG}}}title") is not None:
        attributes["role"] = "img"
    told = Markup("").join(
        Markup(' {}="{}"').format(Markup(key), value) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), told, inside)


def _plain(element: ET.Element, ids: dict[str, str]) -> dict[str, str]:
    """Attributes of the drawing; one that names anything outside of the file is left out."""
    found = {}
    for key, value in element.attrib.items():
        if key in _ATTRIBUTES:
            own = _OWN.sub(lambda match: f"url(#{ids[match[1]]})", value)
            if key == "data-arm" or _VALUE.fullmatch(_OWN.sub("", value)):
                found[key] = own if key == "data-arm" else " ".join(own.split())
    if element.get("id") in ids:
        found["id"] = ids[element.attrib["id"]]
    return found


def _linked(element: ET.Element, ids: dict[str, str]) -> dict[str, str]:
    """A shape of the same file, or a picture inside of it."""
    address = element.get(f"{{{LINK}}}href", "")
    if address.startswith("#"):
        return {"href": f"#{ids[address[1:]]}"}
    return {"href": "".join(address.split())} if address.startswith(_PICTURE) else {}
