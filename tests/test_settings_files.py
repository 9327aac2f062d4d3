"""Files of settings: what is wrong with one is said in one line, with line and column."""

from pathlib import Path

import calls
import pytest
from conftest import ROOT

from mfm.errors import UserError
from mfm.settings.files import read_settings
from snakemake_logger_plugin_mfm import LogHandler, files_of


@pytest.mark.parametrize(
    ("content", "place", "told"),
    [
        (b"results: x\n\tseeds: [0]\n", (2, 1), "a tab: indent with spaces"),
        (b"a:\n  b: 1\n\tc: 2\n", (3, 1), "a tab: indent with spaces"),
        (b"results: x\nseeds: [0, 1\narms: {}\n", (2, 8), "this '[' is not closed"),
        (b"arms: {a: scratch\nseeds: [1]\n", (1, 7), "this '{' is not closed"),
        (b"arms: {a: scratch}}\n", (1, 19), "this '}' closes nothing"),
        (b"results: 'x\nseeds: [1]\n", (1, 10), "this quote is not closed"),
        (b"results: a: b\n", (1, 11), "a ':' where none can be"),
        (b"results: x\nseeds\narms: {}\n", (2, 1), "this has no ':' after it"),
        (b"dataset:\n    name: x\n  source: y\n", (3, 3), "another indentation"),
        (b"results: @x\n", (1, 10), "a text that begins with '@' needs quotes"),
        (b"{[1]: 2}\n", (1, 2), "a list or a section can't be a key"),
        (b"a: 1\n---\nb: 2\n", (2, 1), "a second document begins"),
        (b"- a\n- b\n", (1, 1), "the file holds a list"),
        (b"just text", (1, 1), "the file holds a text"),
        (b"3", (1, 1), "the file holds one value"),
        (b"", (1, 1), "the file is empty"),
        (b"# nothing\n", (1, 1), "the file is empty"),
        (b"results: x\n# caf\xe9\n", (2, 6), "byte 0xe9 is not UTF-8"),
        ("results: x\n".encode("utf-16"), (1, 1), "is not UTF-8"),
        (b"results: a\x00b\n", (1, 11), "a character that no text has (U+0000)"),
        (b"seeds: [0]\nx: 1\nseeds: [1]\n", (3, 1), "key 'seeds' is given twice, first in line 1"),
        (b"finetune: {epochs: 1, epochs: 3}\n", (1, 23), "key 'epochs' is given twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(content, place, told, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {place[0]}, column {place[1]}: ")
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.json", b'{"a": 1,}', "line 1, column 9"),
        ("x.json", b'{"a": {"b": 1, "b": 2}}', "key 'b' is given twice"),
        ("x.yaml", b"a: " + b"[" * 3000, "brackets inside brackets"),
        ("x.yaml", b"a: 2020-13-45\n", "month must be in 1..12"),
        ("table.md", b"# a\n| a |\n", "a target goes before --configfile, or after '--'"),
    ],
)
def test_other_files_and_values_end_in_one_line_too(name, content, told, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_settings(tmp_path / name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_files_are_read(tmp_path):
    for name, content in {
        "x.json": b'{\t"a": [1]}',
        "y.yaml": b"\xef\xbb\xbfa: [1]\n",
        "z.yml": b"a: &a [1]\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read_settings(tmp_path / name) == {"a": [1]}


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--configfile: there is no file .*gone\.yaml$"):
        read_settings(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match=r"there is no file .*; a target goes before --configfile"):
        read_settings(tmp_path / "results/table.md")
    with pytest.raises(UserError, match="can't be read: Is a directory"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("-n --cores 1 x", []),
        ("--configfile a.yaml b.yaml --cores 1", ["a.yaml", "b.yaml"]),
        ("--configfiles a.yaml -- x", ["a.yaml"]),
        ("--configfile=a.yaml x", ["a.yaml"]),
        ("--config seeds=[0] x=1 --configfile a.yaml -C y=2", ["a.yaml"]),
        ("--configfile", []),
    ],
)
def test_the_files_of_a_call_of_snakemake(words, files):
    assert files_of(words.split()) == [Path(file) for file in files]


def test_snakemake_itself_does_not_get_to_read_a_wrong_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("seeds: [0\n")
    told = "config.yaml, line 1, column 8: this '[' is not closed by ']' where it should be"
    monkeypatch.setattr("sys.argv", ["snakemake", "--configfile", f"{tmp_path}/config.yaml"])
    with pytest.raises(SystemExit):
        LogHandler(None, None)
    assert capsys.readouterr().err == f"mfm: error: {tmp_path}/{told}\n"
    # The default configuration is checked by the Snakefile, that of --configfile before it.
    for words in ([], ["--configfile", "config.yaml"]):
        done = calls.snakemake("-n", "--snakefile", ROOT / "Snakefile", *words, cwd=tmp_path)
        assert done.returncode != 0
        lines = [line for line in done.stderr.splitlines() if "Using workflow" not in line]
        assert lines == [f"mfm: error: {told}"]
