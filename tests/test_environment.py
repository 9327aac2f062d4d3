"""What is pinned in several places is pinned alike."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def _pins(lines):
    pairs = (re.split(r"\s*==\s*", line.strip()) for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_conda_environment_pins_the_same_versions():
    constraints = _pins((ROOT / "constraints.txt").read_text().splitlines())
    environment = yaml.safe_load((ROOT / "workflow/envs/mfm.yaml").read_text())
    packages = _pins(next(e["pip"] for e in environment["dependencies"] if isinstance(e, dict)))
    assert packages
    assert {name: constraints[name] for name in packages} == packages


def test_every_dependency_is_in_the_conda_environment():
    project = (ROOT / "pyproject.toml").read_text()
    block = project.split("dependencies = [", 1)[1].split("]", 1)[0]
    names = set(re.findall(r'"([a-z][a-z0-9-]*)', block))
    environment = yaml.safe_load((ROOT / "workflow/envs/mfm.yaml").read_text())
    packages = next(e["pip"] for e in environment["dependencies"] if isinstance(e, dict))
    assert names == set(_pins(packages))


def test_the_package_never_imports_snakemake():
    sources = list((ROOT / "src/mfm").rglob("*.py"))
    assert sources
    imports = [p for p in sources if re.search(r"^\s*(import|from) snakemake", p.read_text(), re.M)]
    assert not imports


def test_snakefile_stays_a_list():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 40
