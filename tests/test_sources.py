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
from mfm.__main__ import main
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
fetched = []
for words in (["toy/0.5", "out.json"], ["toy/x", "no.json"]):
    sys.argv = ["mfm", "fetch", *words]
    try:
        main()
        fetched.append(0)
    except SystemExit as ended:
        fetched.append(ended.code)
print(json.dumps({
    "fetched": fetched,
    "package": __import__("mfm").__file__,
    "text": initial.text,
    "checksum": initial.checksum,
    "waits for": runs.initial_files("toy", 0),
    "half": all(bool((t == t.new_tensor(0.5)).all()) for t in backbone.values()),
    "classifier": bool((state["fc.weight"] == 0.5).all()),
}))
"""


def test_an_arm_starts_from_a_new_source_which_is_fetched_and_refused_as_any_other(tmp_path):
    """In a copy of the package with one file and one line more."""
    package = tmp_path / "with_toy"
    shutil.copytree(ROOT / "src/mfm", package / "mfm", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "mfm/models/sources/toy.py").write_text(TOY)
    registry = package / "mfm/models/sources/__init__.py"
    text = registry.read_text()
    assert text.count("SOURCES = (\n") == 1
    registry.write_text(text.replace("SOURCES = (\n", 'SOURCES = (\n    "toy",\n'))

    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("package") == str(package / "mfm/__init__.py")
    text, checksum = found.pop("text"), found.pop("checksum")
    assert text.startswith(f"initialised from toy/0.5 (SHA-256 {checksum}): ")
    assert found == {
        "fetched": [0, 2],
        "waits for": ["results/weights/toy.json"],
        "half": True,
        "classifier": False,
    }
    fetched = json.loads((tmp_path / "out.json").read_text())
    assert fetched["weights"] == "toy/0.5"
    assert fetched["tensors"] > 10
    assert done.stderr.count("\n") == 1, done.stderr
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
