"""Looks at the evaluated images: which experiments are one, and that none is lost."""

import subprocess
import sys

import pytest

from mfm.evaluation import looks
from mfm.experiment.resolve import experiment_hash
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.settings.section import parse

VALUES = {
    "seeds": [0, 1],
    "dataset": {"name": "own", "source": "generated", "holdout_per_class": 3},
    "pretrain": {"p": {"task": "mfm"}, "unused": {"task": "mfm"}},
    "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}},
    "finetune": {"epochs": 10},
}
GRID = {"grid": {"epochs": [10, 20]}, "seeds": [7]}


def hash_of(**more):
    values = VALUES | more
    return experiment_hash(parse(Experiment, values, where="test"))


def note(folder, experiment, *, split="val", results="results"):
    looks.note(folder, split=split, experiment=experiment, results=results)


def test_different_experiments_on_a_split_are_counted(tmp_path):
    assert looks.count(tmp_path, "val") == 0
    for experiment in ("a", "b", "a", "a"):
        note(tmp_path, experiment)
    assert looks.count(tmp_path, "val") == 2
    note(tmp_path, "a", results="another folder")
    assert looks.count(tmp_path, "val") == 2
    note(tmp_path, "a", split="holdout")
    assert (looks.count(tmp_path, "val"), looks.count(tmp_path, "holdout")) == (2, 1)


@pytest.mark.parametrize(
    "more",
    [
        {"seeds": [0, 1, 2, 3]},
        {"results": "elsewhere"},
        {"baseline": "mfm"},
        {"question": {"arm": "mfm", "baseline": "scratch"}},
        {"frozen": {}},
        {"tuning": GRID},
        {"variants": {"s": {"key": "finetune.loss", "values": ["bce"]}}},
        {"pretrain": {"p": {"task": "mfm", "seeds": [3, 4]}, "unused": {"task": "mfm"}}},
        {"pretrain": {"p": {"task": "mfm"}}},
        {"arms": {"mfm": {"pretrain": "p", "seeds": [1]}, "scratch": "scratch"}},
        {"evaluate": {"bands": {"radii": [2]}}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_changes_no_accuracy_of_an_arm_makes_no_other_experiment(more):
    assert hash_of(**more) == hash_of()


@pytest.mark.parametrize(
    "more",
    [
        {"finetune": {"epochs": 10, "optimizer": {"lr": 0.01}}},
        {"pretrain": {"p": {"task": "mfm", "radius": 5}}},
        {"model": {"backbone": "resnet34"}},
        {"evaluate": {"resize": 40}},
        {"evaluate": {"split": "holdout"}},
        {"arms": VALUES["arms"] | {"given": {"weights": "x.pth"}}},
        {"arms": VALUES["arms"] | {"scratch": {"as_long_as": "mfm"}}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_changes_an_accuracy_makes_another_experiment(more):
    assert hash_of(**more) != hash_of()


def test_a_trial_is_a_look_at_the_holdout_and_a_variant_one_of_its_own():
    study = {"loss": {"key": "finetune.loss", "values": ["bce"]}}
    values = VALUES | {"tuning": GRID, "variants": study}
    runs = Runs(parse(Experiment, values, where="test"))
    trials = [runs.at(each.folder) for each in runs.trials.values()]
    assert [each.evaluate.split for each in trials] == ["holdout", "holdout"]
    [bce] = [each.experiment for each in runs.studies["loss"] if not each.own]
    hashes = [experiment_hash(each) for each in (runs.experiment, bce, *trials)]
    assert len(set(hashes)) == 4


def test_two_processes_at_once_lose_no_line(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom mfm.evaluation import looks\n"
        "for n in range(10):\n"
        "    looks.note(Path(sys.argv[1]), split='val', experiment=f'{sys.argv[2]}{n}',"
        " results='r')\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen([*words, name]) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    assert looks.count(tmp_path, "val") == 20
