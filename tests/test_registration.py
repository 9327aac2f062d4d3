"""A task, an evaluation: each a file and a line, and the whole workflow knows it.

Run as others use the workflow: as a module, from an empty folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.processes

TASK = '''
"""Prediction of each image's mean colour."""

from typing import Literal

import torch
from pydantic import Field

from mfm.data.loading.batches import to_float
from mfm.models.backbones import create_backbone
from mfm.objectives.pretext import Pretext
from mfm.training.task import Task


class Settings(Pretext):
    """Prediction of each image's mean colour."""

    task: Literal["colour"] = Field(description="Pretraining task.")
    brighter: float = Field(1.0, gt=0, description="Factor of the predicted colour.")

    @property
    def title(self):
        return f"mean colour, {self.brighter:g} times"

    def build(self, inputs):
        torch.manual_seed(inputs.seed)
        model = create_backbone(inputs.model, classes=3, image_size=inputs.size)

        def loss(model, batch, step):
            images = to_float(batch.images)
            colours = self.brighter * images.mean(dim=(2, 3))
            return (model(images) - colours).square().mean(dim=1).sum() / len(step.positions)

        return Task(model=model, backbone=model, objective=loss)
'''
EVALUATION = '''
"""Accuracy on upside-down images."""

from typing import ClassVar

from mfm.evaluation.further import Further, Measure


class Settings(Further):
    """Top-1 on images turned upside down, flipped.md."""

    title: ClassVar[str] = "does a model know what is up?"

    def measures(self):
        return [Measure(name="flipped", title="upside down", unit="%")]

    def measure(self, subject):
        return {"flipped": subject.predict(lambda images, rows: images.flip(2)).top1}
'''
SNAKEFILE = f"""
configfile: "mine.yaml"


module mfm:
    snakefile:
        "{ROOT / "workflow/Snakefile"}"
    config:
        config


use rule * from mfm as mfm_*


rule all:
    input:
        rules.mfm_all.input,
    default_target: True
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the package with the two files and their lines; the environment that uses it."""
    package = tmp_path_factory.mktemp("source") / "mfm"
    shutil.copytree(ROOT / "src/mfm", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "objectives/colour.py").write_text(TASK)
    (package / "evaluation/flipped.py").write_text(EVALUATION)
    for file, line in {
        "objectives/__init__.py": ('    "supervised",\n', '    "colour",\n'),
        "evaluation/__init__.py": ('EVALUATIONS = ("bands",', ' "flipped",'),
    }.items():
        text = (package / file).read_text()
        assert text.count(line[0]) == 1
        (package / file).write_text(text.replace(line[0], "".join(line)))
    return os.environ | {"PYTHONPATH": str(package.parent)}


def run(words: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_module_runs_to_the_end_with_a_new_task_and_a_new_evaluation(extended, tmp_path):
    values = yaml.safe_load((ROOT / "configs/tiny.yaml").read_text())
    values["pretrain"] = {"colour": {"task": "colour", "epochs": 1, "batch": 32, "brighter": 2}}
    values["arms"] = {"scratch": "scratch", "colour": {"pretrain": "colour"}}
    values["question"] = {"arm": "colour", "baseline": "scratch"}
    values["evaluate"]["flipped"] = {}
    values["frozen"] = {"images_per_class": [4], "knn": [3]}
    values["seeds"] = [0]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    snakemake = [str(Path(sys.executable).parent / "snakemake"), "--cores", "all"]
    run(snakemake, tmp_path, extended)
    assert "Nothing to be done" in run(snakemake, tmp_path, extended)

    results = tmp_path / "results/tiny"
    for name in ("table.md", "report.html", "dataset.md", "plan.md"):
        assert (results / name).is_file()
    assert "| colour |" in (results / "table.md").read_text()
    assert pd.read_csv(results / "question.csv")["finished"].tolist() == [0]
    rows = pd.read_csv(results / "results.csv")
    assert set(rows["pretraining"]) == {"-", "colour"}
    flipped = pd.read_csv(results / "flipped.csv")
    assert flipped["flipped"].between(0, 100).all()
    assert len(flipped) == len(rows) == 2
    read = pd.read_csv(results / "probe.csv", dtype=str).value_counts(["method", "amount"])
    methods = [(method, amount) for method in ("knn3", "logistic") for amount in ("16", "4")]
    assert read.to_dict() == dict.fromkeys(methods, 3)  # pixels, random weights, colour
    assert "less random weights" in (results / "probe.md").read_text()
    assert "upside down" in (results / "flipped.md").read_text()
    page = (results / "report.html").read_text()
    for part in ("Does a model know what is up?", "colour"):
        assert part in page
    assert "mean colour, 2 times" in (results / "logs/pretrain/colour/seed0.log").read_text()
    assert "pretrain.colour" in (results / "dataset.md").read_text()

    export = [sys.executable, "-m", "mfm", "export"]
    weights = "results/tiny/pretrain/colour/seed0/backbone.safetensors"
    run([*export, weights, "published", "--to", "timm"], tmp_path, extended)
    card = (tmp_path / "published/README.md").read_text()
    assert "| recipe | mean colour, 2 times |" in card
    assert "after finetuning as arm 'colour'" in card


def test_the_settings_of_a_new_task_are_checked(extended, tmp_path):
    (tmp_path / "wrong.yaml").write_text(
        "dataset: {source: generated}\npretrain: {p: {task: colour, brigther: 2}}\n"
    )
    code = "from mfm.experiment.settings import load_yaml; from pathlib import Path; "
    code += "load_yaml(Path('wrong.yaml'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=extended
    )
    assert "did you mean 'brighter'?" in done.stderr
