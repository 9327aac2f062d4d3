import xml.etree.ElementTree

import pytest
from matplotlib.figure import Figure

from mfm.files import style
from mfm.reporting.inline_svg import inline_svg

HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
    xmlns:odd="odd" viewBox="0 0 9 9" onload="alert(1)">
  <style>* { fill: url(https://example.org) }</style>
  <script>alert(1)</script>
  <foreignObject><body xmlns="http://www.w3.org/1999/xhtml"><img src="x"/></body></foreignObject>
  <a xlink:href="javascript:alert(1)"><path d="M 0 0"/></a>
  <odd:path d="M 7 7"/>
  <image xlink:href="https://example.org/x.png"/>
  <image href="data:image/svg+xml;base64,AAAA"/>
  <use xlink:href="https://example.org/x.svg#a"/>
  <g><animate attributeName="href" values="javascript:alert(1)"/></g>
  <path d="M 1 1" style="fill: url(https://example.org/x)" onclick="alert(1)"/>
  <path d="M 2 2" style="fill: u\\72l(x)" fill="URL(x)"/>
  <path d="M 3 3" style="mask: image-set('x' 1x)" clip-path="url(#p)"/>
  <clipPath id="p"><rect id="other" width="1"/></clipPath>
  <rect data-arm="&lt;b&gt;&quot; onclick=&quot;url(x)" width="1">
    <title>&lt;b&gt; &amp;</title></rect>
</svg>"""


def attributes(root):
    return {(key, value) for each in root.iter() for key, value in each.attrib.items()}


def test_nothing_that_could_act_is_taken_in(tmp_path):
    (tmp_path / "a.svg").write_text(HOSTILE)
    text = inline_svg(tmp_path / "a.svg", label='says "<i>"')
    root = xml.etree.ElementTree.fromstring(text)
    assert {each.tag for each in root.iter()} <= {
        "svg", "g", "path", "image", "use", "clipPath", "rect", "title"
    }  # fmt: skip
    found = attributes(root)
    assert not [key for key, _ in found if key.startswith("on") or key == "style"]
    (clip,) = [value for key, value in found if key == "id"]
    assert [value for key, value in found if "url" in value.lower() and key != "data-arm"] == [
        f"url(#{clip})"
    ]
    assert not [value for key, value in found if "href" in key]
    assert [each.get("d") for each in root.iter("path")] == ["M 1 1", "M 2 2", "M 3 3"]
    assert ("data-arm", '<b>" onclick="url(x)') in found
    assert [each.text for each in root.iter("title")] == ["<b> &"]
    assert root.get("aria-label") == 'says "<i>"'


def test_a_figure_keeps_its_drawing_and_has_ids_of_its_own(tmp_path):
    ids = []
    for name in ("one", "two"):
        figure = Figure()
        axis = figure.subplots()
        axis.imshow([[1, 2], [3, 4]])
        axis.plot([0, 1], marker="o")
        axis.set_title(name)
        style.save(figure, tmp_path / f"{name}.svg")
        text = inline_svg(tmp_path / f"{name}.svg", label=name)
        root = xml.etree.ElementTree.fromstring(text)
        drawn = xml.etree.ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        for shape in ("path", "use", "image"):
            count = len(list(drawn.iter(f"{{http://www.w3.org/2000/svg}}{shape}")))
            assert len(list(root.iter(shape))) == count > 0
        found = attributes(root)
        (picture,) = [each.get("href") for each in root.iter("image")]
        assert picture.startswith("data:image/png;base64,")
        assert root.get("role") == "img"  # no part of it says anything
        ids.append({value for key, value in found if key == "id"})
        used = {value[1:] for key, value in found if key == "href" and value[0] == "#"}
        assert used <= ids[-1]
    assert ids[0].isdisjoint(ids[1])
    (tmp_path / "cut.svg").write_text("<svg")
    with pytest.raises(xml.etree.ElementTree.ParseError):
        inline_svg(tmp_path / "cut.svg", label="cut")
