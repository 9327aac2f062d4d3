"""Commands: all that `mfm` lists are there, and each says what it does."""

import re
import sys
from importlib import import_module
from runpy import run_module

import pytest
from conftest import ROOT

from mfm.__main__ import FOR_PEOPLE, FOR_THE_WORKFLOW, main
from mfm.commands import loader_drift

COMMANDS = [*FOR_PEOPLE, *FOR_THE_WORKFLOW]


def module(command):
    return import_module(f"mfm.commands.{command.replace('-', '_')}")


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["mfm", *words])
    main()


def test_every_file_is_a_command_that_is_listed():
    files = {path.stem for path in (ROOT / "src/mfm/commands").glob("*.py")}
    assert files - {"__init__", "arguments"} == {name.replace("-", "_") for name in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_help(command, capsys):
    if command in ("launch", "slurm"):  # their arguments are torchrun's
        assert module(command).__doc__
        return
    with pytest.raises(SystemExit) as ended:
        module(command).main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: mfm {command} ")
    assert module(command).__doc__.splitlines()[0] in said


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_the_list_is_one_screen(words, monkeypatch, capsys):
    run(monkeypatch, *words)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    for command in COMMANDS:
        assert [line for line in lines if re.search(rf"(^  |, ){command}( |,|$)", line)], command


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("loader_drift", "loader-drift")])
def test_a_mistyped_command_names_the_nearest(typed, meant, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, typed)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"mfm: error: there is no command '{typed}' (did you mean '{meant}'?)\n"


def test_the_converter_keeps_its_old_name(monkeypatch, capsys):
    said = []
    for words in (["mfm.convert"], ["mfm", "convert"]):
        monkeypatch.setattr(sys, "argv", [*words, "--help"])
        with pytest.raises(SystemExit) as ended:
            main() if words[1:] else run_module("mfm.convert", run_name="__main__")
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


@pytest.mark.parametrize("seed", ["-1", str(2**64), "9" * 31, "x"])
def test_a_seed_that_is_none_is_told_in_one_line(seed, capsys):
    with pytest.raises(SystemExit):
        loader_drift.main(["--weights", "w.safetensors", f"--seed={seed}"])
    assert "argument --seed: " in capsys.readouterr().err.splitlines()[-1]
