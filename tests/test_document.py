import re
from pathlib import Path

import pytest

from mfm.files import style
from mfm.reporting.document import (
    Bold,
    Bullets,
    Code,
    Column,
    Link,
    Listing,
    Paragraph,
    Picture,
    Section,
    Table,
    joined,
    plain,
)
from mfm.reporting.render_csv import to_csv
from mfm.reporting.render_html import to_html
from mfm.reporting.render_markdown import inline, to_markdown

COLUMNS = [
    Column("name", lambda row: row[0], description="what it is <called>"),
    Column("length", lambda row: Bold(f"{row[1]:.1f}"), unit="px"),
    Column("file", lambda row: Link("a|b", "x y/(z).md")),
]
DOCUMENT = Section(
    "A & B",
    [
        Paragraph(("Type ", Code("mfm <x>"), ", or ", Link("https://a.org", "https://a.org"), ".")),
        Section("Rows", [Table(COLUMNS, [("one", 1), ("<i>|two|</i>", 2)])]),
        Bullets([(Bold("first"), " of all"), Bullets(["of the first"]), "second"]),
        Bullets([]),
        Listing("x = 1 < 2", "python"),
    ],
)


def test_markdown():
    assert (
        to_markdown(DOCUMENT)
        == r"""# A & B

Type `mfm <x>`, or https://a.org.

## Rows

| name | length (px) | file |
| --- | --- | --- |
| one | **1.0** | [a\|b](x%20y/%28z%29.md) |
| \<i>\|two\|\</i> | **2.0** | [a\|b](x%20y/%28z%29.md) |

- **first** of all
  - of the first
- second

```python
x = 1 < 2
```
"""
    )


def test_html(tmp_path):
    html = to_html([DOCUMENT], folder=tmp_path, level=2).replace("\n", "")
    for part in (
        "<h2>A &amp; B</h2>",
        "<h3>Rows</h3>",
        "<code>mfm &lt;x&gt;</code>",
        '<a href="https://a.org">https://a.org</a>',
        '<div class="scroll"><table><thead><tr><th title="what it is &lt;called&gt;">name</th>',
        "<td>&lt;i&gt;|two|&lt;/i&gt;</td><td><strong>2.0</strong></td>",
        "<ul><li><strong>first</strong> of all<ul><li>of the first</li></ul></li>",
        "x = 1 &lt; 2",
    ):
        assert part in html
    assert "<i>" not in html


def test_csv():
    assert to_csv(Table(COLUMNS, [("one, two", 1)])) == (
        'name,length (px),file\n"one, two",1.0,a|b\n'
    )


def test_a_picture_is_in_the_page_and_one_that_is_not_there_leaves_its_caption(tmp_path):
    style.save(style.nothing("x"), tmp_path / "there.png")
    there, gone = Picture("there.png", "<Caption>"), Picture("gone.png", "Gone")
    html = to_html([there, gone], folder=tmp_path, level=2)
    assert 'src="data:image/png;base64,' in html
    assert html.count("&lt;Caption&gt;") == 2
    assert "<p>[Gone]</p>" in html
    assert to_markdown(Section("T", [there])).endswith("![\\<Caption>](there.png)\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # What people write stays as it is.
        ("vit_base_patch16_224, p < 0.05, [0.2, 1.0], 3 * 4, -1.2 & more", None),
        ("**bold** _it_ `code` <b>", r"\*\*bold\*\* \_it\_ \`code\` \<b>"),
        ("[a](http://b) ~~x~~ $x$", r"[a\](http://b) \~\~x\~\~ \$x\$"),
        ("a|b", r"a\|b"),
        ("&lt; \\* end\\", r"\&lt; \\\* end\\"),
        ("two\nlines", "two lines"),
    ],
)
def test_text_is_no_markup_in_markdown(text, shown):
    assert inline(text) == (text if shown is None else shown)


@pytest.mark.parametrize("text", ["# a", "- a", "+ a", "> a", "1. a", "12) a", "--- "])
def test_a_line_begins_no_block(text):
    found = to_markdown(Section("T", [Paragraph(text)])).split("\n\n")[1]
    assert found.replace("\\", "").strip() == text.strip()
    assert re.match(r"\\|\d+\\", found)
    assert (
        inline("+0.10 points")
        == to_markdown(Section("T", [Paragraph("+0.10 points")])).splitlines()[2]
    )


def test_bold_text_and_headings_keep_what_stands_at_their_ends():
    assert inline(("a ", Bold(" cat "), "b")) == "a  **cat** b"
    assert to_markdown(Section("a #", [])) == "# a \\#\n"


def test_code_of_a_cell_keeps_its_ticks_and_bars():
    assert inline(Code("a`b")) == "``a`b``"
    assert inline(Code("`a")) == "`` `a ``"
    assert inline(Code("a|b"), in_table=True) == r"`a\|b`"
    assert inline(Code("a|b")) == "`a|b`"


def test_a_name_turns_nothing_around_it():
    turned = "\N{RIGHT-TO-LEFT OVERRIDE}abc\N{LEFT-TO-RIGHT ISOLATE}"
    table = Table([Column("class", lambda row: row), Column("n", lambda row: "12")], [turned])
    document = Section("Names", [Paragraph((turned, ": ", Code(turned))), table])
    for text in (to_markdown(document), str(to_html(document.blocks, folder=Path(), level=2))):
        assert text.count(r"\u202eabc\u2066") == 3
        assert not set(turned) - set("abc") & set(text)
    hebrew = "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}"
    assert hebrew in to_markdown(Section(hebrew, []))


def test_texts_are_joined_and_told_without_markup():
    text = joined(["a", ("b", Bold(Code("c")))], ", ")
    assert text == ("a", ", ", "b", Bold(Code("c")))
    assert plain(text) == "a, bc"
