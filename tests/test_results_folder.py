"""Folder of the results: which may be one, by its name and by what is there."""

import re
from pathlib import Path

import pytest

from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.experiment.results_folder import check_folder
from mfm.experiment.settings import Experiment
from mfm.settings.section import parse


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("x{y}", "has { }, which stands for something else"),
        ("x[1]", "has [ ], which"),
        ("x*", "has *, which"),
        ("a\nb", "has a character that can't be printed"),
        ("", "give the path of a folder"),
        (" ", "give the path of a folder"),
        ("s3://bucket/x", "give the path of a folder"),
        ("./-x", "looks like an option"),
        ("~nobody-of-that-name/x", "there is no such home folder"),
        ("x" * 300, "too long"),
    ],
)
def test_a_name_that_is_no_folders_is_told(given, told):
    with pytest.raises(UserError) as caught:
        parse(Experiment, {"results": given}, where="c")
    assert str(caught.value).startswith("c: results: ")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_folder_is_written_plainly(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for given, plain in {
        "results/": "results",
        "./a//b/../c": "a/c",
        "~/mfm": "/home/me/mfm",
        "two words/é'": "two words/é'",
    }.items():
        assert parse(Experiment, {"results": given}, where="c").results == plain


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/", "runs in, or above it"),
        (".", "runs in, or above it"),
        ("..", "runs in, or above it"),
        ("{here}", "runs in, or above it"),
        ("../{name}", "runs in, or above it"),
        ("data", "the linked datasets are in data/"),
        ("{here}/data/x", "the linked datasets are in data/"),
        ("src", "src/ belongs to the program"),
        ("workflow/x", "workflow/ belongs to the program"),
        (".git", ".git/ belongs to the program"),
        ("file.txt", "file.txt is a file"),
        ("file.txt/x", "file.txt is a file"),
        ("images/train/x", "lies among the images of dataset.source"),
        ("more", "lies among the images of dataset.unlabelled"),
        ("~", "is your home folder"),
    ],
)
def test_a_folder_of_something_else_is_refused(given, told, tmp_path, monkeypatch):
    here = tmp_path / "here"
    for name in ("images", "more", "../home"):
        (here / name).mkdir(parents=True)
    (here / "file.txt").touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = given.format(here=here, name=here.name)
    given = parse(Experiment, {"results": given}, where="c").results
    dataset = Dataset(source="images", unlabelled="more")
    with pytest.raises(UserError, match=f"results: .*{re.escape(told)}.*such as results/mine$"):
        check_folder(given, dataset)
    for fine in ("results", "results/mine", str(tmp_path / "elsewhere"), "images2"):
        check_folder(fine, dataset)


def test_a_link_to_a_disk_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("results").symlink_to(tmp_path / "disk")
    check_folder("results", Dataset())
