"""The workflow as a wheel has it: complete, and run from an empty folder."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.processes
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"


def python(*words: str, folder: Path, path: Path | None = None) -> str:
    """What a program printed that ended well; `path` is where Python looks for packages first."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    words = (sys.executable, *words)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What a wheel brings, which is built from an sdist, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("packages")
    python("-c", BUILD, "build_sdist", str(folder), folder=ROOT)
    with tarfile.open(*folder.glob("*.tar.gz")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    assert (source / "tests/conftest.py").is_file(), "whoever has the sdist can run the tests"
    python("-c", BUILD, "build_wheel", str(folder), folder=source)
    with zipfile.ZipFile(*folder.glob("*.whl")) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_has_every_file_of_the_package_and_of_the_workflow(site):
    def files(folder: Path, below: Path) -> set[Path]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {below / path.relative_to(folder) for path in found if path.suffix != ".pyc"}

    expected = files(ROOT / "src/mfm", Path("mfm"))
    for name in ("configs", "profiles", "workflow"):
        expected |= files(ROOT / name, Path("mfm/checkout", name))
    assert expected - files(site, Path()) == set()


def test_an_experiment_that_came_along_is_run_by_name_with_the_wheels_own_workflow(tmp_path, site):
    said = python("-m", "mfm", "run", "tiny", "-n", folder=tmp_path, path=site)
    assert f"profile {site / 'mfm/checkout/profiles/default'}" in said
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said.split("Job stats:")[1], re.M))
    assert (counts["pretrain"], counts["finetune"], counts["table"]) == ("2", "6", "1")
