from hypothesis import example, given
from hypothesis import strategies as st

from mfm.files.lines import escaped, read_lines, shown, unescaped, write_lines


@given(st.text())
@example("\\n")
@example("a\\\nb\r\x85\u2028\\u2028\\x0")
def test_a_text_of_one_line_reads_back_exactly(text):
    line = escaped(text)
    assert len(line.splitlines()) == bool(text)
    assert unescaped(line) == text


def test_a_file_has_a_line_for_each_name(tmp_path):
    names = [
        "train/cat/a.jpg",
        "train/cat/line\nbreak.jpg",
        "caf\u00e9 \U0001f600",
        "back\\slash",
        "",
    ]
    write_lines(tmp_path / "x.txt", names)
    text = (tmp_path / "x.txt").read_text()
    assert text.startswith("train/cat/a.jpg\ntrain/cat/line\\nbreak.jpg\ncaf\u00e9 \U0001f600\n")
    assert len(text.splitlines()) == len(names)
    assert read_lines(tmp_path / "x.txt") == names


def test_names_are_shown_without_what_a_terminal_would_obey():
    assert shown("caf\u00e9 \x1b[31m\n\udce9") == "caf\u00e9 \\x1b[31m\\n\\xe9"
