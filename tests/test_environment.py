"""What is pinned or installed in several places is so alike."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import mfm

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _names(requirements):
    return {Requirement(each).name for each in requirements}


def _normal(names):
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def _pins(lines):
    pairs = (re.split(r"\s*==\s*", line.split(";")[0].strip()) for line in lines if "==" in line)
    return {next(iter(_normal([name]))): version for name, version in pairs}


CONSTRAINTS = _pins((ROOT / "constraints.txt").read_text().splitlines())


def _conda_packages():
    environment = yaml.safe_load((ROOT / "workflow/envs/mfm.yaml").read_text())
    return _pins(next(e["pip"] for e in environment["dependencies"] if isinstance(e, dict)))


def test_conda_environment_pins_the_same_versions():
    packages = _conda_packages()
    assert packages
    assert {name: CONSTRAINTS[name] for name in packages} == packages


def test_every_dependency_is_in_the_conda_environment():
    assert _names(PROJECT["dependencies"]) | _names(EXTRAS["dali"]) == set(_conda_packages())


def test_the_conda_environment_gets_the_package_that_runs_the_workflow(tmp_path):
    """By its script, with a Python environment in the place of conda's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    package = {"MFM_PACKAGE": str(Path(mfm.__file__).parent)}
    script = str(ROOT / "workflow/envs/mfm.post-deploy.sh")
    for _ in range(2):
        subprocess.run(["sh", script], env=environment | package, cwd=tmp_path, check=True)
    told = [tmp_path / "bin/python", "-c", "import mfm; print(mfm.__version__)"]
    done = subprocess.run(told, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"{mfm.__version__}\n", done.stderr


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("conda") is None, reason="there is no conda here")
def test_the_conda_environment_is_built(tmp_path):
    words = ["--sdm", "conda", "--conda-create-envs-only", "--directory", str(tmp_path)]
    words += [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--configfile",
        str(ROOT / "configs/tiny.yaml"),
    ]
    snakemake = Path(sys.executable).with_name("snakemake")
    done = subprocess.run([snakemake, "--cores", "1", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", True),
        ("linux", "aarch64", True),
        ("linux", "ppc64le", False),
        ("darwin", "arm64", False),
    ],
)
def test_dali_is_asked_for_where_there_is_one(system, machine, expected):
    (dali,) = (Requirement(each) for each in EXTRAS["dali"])
    assert dali.marker.evaluate({"sys_platform": system, "platform_machine": machine}) == expected
    assert not [name for name in _names(PROJECT["dependencies"]) if name.startswith("nvidia")]


def test_make_installs_what_the_tests_need():
    makefile = (ROOT / "Makefile").read_text()
    assert "--constraint constraints.txt --editable '.[dali,dev]'" in makefile
    wanted = _names(PROJECT["dependencies"]) | _names(EXTRAS["dali"]) | _names(EXTRAS["dev"])
    unpinned = {"setuptools"}  # which pip freeze leaves out
    assert _normal(wanted) - CONSTRAINTS.keys() == unpinned


def _made_of(name):
    """What a container is made from: its base, what is copied into it, what is installed."""
    text = (ROOT / name).read_text()
    (base,) = re.findall(r"^(?:FROM|From:) (.+)$", text, re.M)
    copied = re.findall(r"^COPY (.+) \S+$|^    (\S+) /opt/mfm/\S*$", text, re.M)
    files = {file for pair in copied for part in pair for file in part.split()}
    (installed,) = re.findall(r"pip install .+", text)
    return base, files, installed


def test_containers_are_made_of_files_that_exist_and_of_the_lock():
    base, files, installed = _made_of("Dockerfile")
    assert (base, files, installed) == _made_of("apptainer.def")
    assert base == "python:3.11-slim-bookworm"
    assert [file for file in files if not (ROOT / file).exists()] == []
    needed = {"src", "README.md", "LICENSE", "pyproject.toml", "setup.py", "constraints.txt"}
    build = runpy.run_path(str(ROOT / "setup.py"), run_name="read")
    assert files == needed | {*build["FILES"], *build["FOLDERS"]}
    extras = re.fullmatch(
        r"pip install --no-cache-dir --constraint constraints\.txt '\.\[(.+)\]'", installed
    )[1].split(",")
    assert set(extras) <= EXTRAS.keys()
    assert _normal(_names(each for extra in extras for each in EXTRAS[extra])) <= CONSTRAINTS.keys()


def test_snakefile_stays_a_list():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 40
