"""Calls of the workflow by `mfm run`: which words are whose."""

import sys

import pytest
from conftest import ROOT

from mfm.calling.workflow import configurations
from mfm.commands import run
from mfm.errors import UserError

SNAKEMAKE = [sys.executable, "-P", "-m", "snakemake"]
SNAKEFILE = ["--snakefile", str(ROOT / "Snakefile")]


@pytest.fixture
def call(monkeypatch):
    """The command line in whose place `mfm run` puts itself."""
    found: list[str] = []
    monkeypatch.setattr(run.os, "execv", lambda program, words: found.extend(words))

    def give(*words: str) -> list[str]:
        found.clear()
        run.main(list(words))
        return found

    return give


def test_configurations_are_files_and_names_and_the_rest_is_snakemakes(call):
    assert call("default", "holdout", "results/table.md", "-n", "tiny") == [
        *SNAKEMAKE,
        *("--configfile", str(ROOT / "config.yaml"), str(ROOT / "configs/holdout.yaml")),
        *SNAKEFILE,
        *("--cores", "all", "results/table.md", "-n", "tiny"),
    ]
    assert call("mine.yaml")[4:6] == ["--configfile", "mine.yaml"]


@pytest.mark.parametrize(
    "words", [["-c2"], ["--cores", "2"], ["--workflow-profile=slurm"], ["-j", "4"], ["-e", "slurm"]]
)
def test_whoever_says_how_much_runs_at_once_is_heard(words, call):
    assert call("tiny", *words)[-len(words) - 2 :] == [*SNAKEFILE, *words]


def test_all_cores_are_used_where_nothing_is_said(call):
    assert call("tiny", "--config", "x=1", "-n")[-5:] == ["--cores", "all", "--config", "x=1", "-n"]


def test_every_configuration_of_the_checkout_has_a_name():
    files = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]
    assert configurations(["default", *(path.stem for path in files[1:])]) == files


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], r"^give a file such as mine\.yaml, or one of default, ablations, "),
        (["tyny"], r"^'tyny' is no configuration: did you mean 'tiny'\? Else give a file"),
        (["results/table.md"], r"^'results/table\.md' is no configuration: give"),
    ],
)
def test_what_is_no_configuration_is_told(words, said):
    with pytest.raises(UserError, match=said):
        configurations(words)
