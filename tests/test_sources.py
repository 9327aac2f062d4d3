"""A source of initial weights is one file and one line."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from mfm.models.sources import SOURCES, Source, source_of

TOY = '''\
"""Weights of a toy: constant ones, 'toy/0.5'."""

import hashlib

from mfm.errors import UserError


def claims(weights):
    return weights.startswith("toy/")


def file(weights):
    return None


def check(weights):
    try:
        float(weights.removeprefix("toy/"))
    except ValueError:
        raise UserError(f"weights: '{weights}' is no toy: give toy/NUMBER") from None


def read(weights):
    check(weights)
    from mfm.models.backbones import create_backbone
    from mfm.models.settings import Model

    value = float(weights.removeprefix("toy/"))
    state = create_backbone(Model(backbone="test_resnet"), classes=0).state_dict()
    return {name: tensor * 0 + value for name, tensor in state.items()}


def checksum(weights):
    return hashlib.sha256(weights.encode()).hexdigest()
'''
PROGRAM = """\
import json, sys
from pathlib import Path
from mfm.experiment import preflight
from mfm.experiment.resolve import finetune_job
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.settings.section import parse
values = {
    "dataset": {"name": "own", "source": "generated"},
    "model": {"backbone": "test_resnet"},
    "arms": {"scratch": "scratch", "toy": {"weights": "toy/0.5"}},
    "finetune": {"batch": 8},
}
runs = Runs(parse(Experiment, values, where="test"))
preflight.check(runs)
assert "torch" not in sys.modules
job = finetune_job(runs.experiment, "toy", 0)
task = job.training.build(job.inputs_of(classes=4, rows=None))
initial = job.load(task, runs.initial_weights("toy", 0))
state = task.backbone.state_dict()
backbone = {n: t for n, t in state.items() if not n.startswith("fc.")}
print(json.dumps({
    "package": __import__("mfm").__file__,
    "text": initial.text,
    "checksum": initial.checksum,
    "waits for": runs.initial_files("toy", 0),
    "half": all(bool((t == t.new_tensor(0.5)).all()) for t in backbone.values()),
    "classifier": bool((state["fc.weight"] == 0.5).all()),
}))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with one file and one line more, as an environment to run it in."""
    folder = tmp_path_factory.mktemp("with_toy")
    shutil.copytree(ROOT / "src/mfm", folder / "mfm", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mfm/models/sources/toy.py").write_text(TOY)
    registry = folder / "mfm/models/sources/__init__.py"
    text = registry.read_text()
    assert text.count("SOURCES = (\n") == 1
    registry.write_text(text.replace("SOURCES = (\n", 'SOURCES = (\n    "toy",\n'))
    return folder


def run(package, folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_an_arm_starts_from_a_new_source(package, tmp_path):
    done = run(package, tmp_path, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("package") == str(package / "mfm/__init__.py")
    text, checksum = found.pop("text"), found.pop("checksum")
    assert text.startswith(f"initialised from toy/0.5 (SHA-256 {checksum}): ")
    assert found == {
        "waits for": ["results/weights/toy.json"],
        "half": True,
        "classifier": False,
    }


def test_it_is_fetched_and_refused_as_any_other(package, tmp_path):
    done = run(package, tmp_path, "-m", "mfm", "fetch", "toy/0.5", "out.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["weights"] == "toy/0.5"
    assert found["tensors"] > 10
    done = run(package, tmp_path, "-m", "mfm", "fetch", "toy/x", "no.json")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'toy/x' is no toy" in done.stderr
    assert not (tmp_path / "no.json").exists()


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_has_what_all_have(name):
    from importlib import import_module

    module = import_module(f"mfm.models.sources.{name}")
    wanted = [each for each in vars(Source) if not each.startswith("_")]
    assert wanted == ["claims", "file", "check", "read", "checksum"]
    assert all(callable(getattr(module, each)) for each in wanted)


def test_every_name_has_a_source():
    for name in ("x", "a/b", "resnet18", "toy/0.5", "x.pth", ""):
        assert source_of(name).claims(name)
