"""Folder of the results: which may be one, by its name and by what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.experiment.layout import DATA
from mfm.settings.section import LONGEST_NAME, PlainPath

# Folders of the checkout; a result there would be taken for a part of the program.
_OURS = ("src", "workflow", "config", "configs", "profiles", "docs", "tests", "benchmarks")


def _results(name: str) -> str:
    """The folder's path, plain: with the home folder for '~', without '.' and '//'."""
    if not name.strip() or "://" in name:
        raise ValueError("give the path of a folder, such as results/mine")
    path = os.path.normpath(Path(name).expanduser())
    if path.startswith("-"):
        raise ValueError(f"'{path}' looks like an option: begin with a letter")
    if any(len(part.encode()) > LONGEST_NAME for part in Path(path).parts):
        raise ValueError("the name of a folder in it is too long: use fewer characters")
    return path


Results = Annotated[PlainPath, AfterValidator(_results)]


def check_folder(results: str, dataset: Dataset) -> None:
    """Raise UserError for a folder that belongs to something else, and for a file."""
    here, path = Path.cwd(), Path(results).absolute()
    path = Path(os.path.normpath(path))
    give = "give a folder of its own, such as results/mine"
    if path == here or path in here.parents:
        raise UserError(
            f"results: '{results}' is the folder that the workflow runs in, or above it: {give}"
        )
    if path == Path.home():
        raise UserError(f"results: '{results}' is your home folder: {give}")
    first = path.relative_to(here).parts[0] if path.is_relative_to(here) else ""
    if first == DATA:
        raise UserError(f"results: '{results}': the linked datasets are in {DATA}/: {give}")
    if first in _OURS or first.startswith("."):
        raise UserError(f"results: '{results}': {first}/ belongs to the program: {give}")
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"results: {folder} is a file: {give}")
    images = {"dataset.source": dataset.source, "dataset.unlabelled": dataset.unlabelled}
    for key, source in images.items():
        if source is None or not Path(source).expanduser().is_dir():
            continue
        if path.resolve().is_relative_to(Path(source).expanduser().resolve()):
            raise UserError(f"results: '{results}' lies among the images of {key}: {give}")
