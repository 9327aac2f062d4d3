"""Two gloo ranks have what one process has, with every backbone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_ranks import PAIRS

from benchmarks.case import Case, settings
from mfm.errors import UserError
from mfm.models.settings import Model
from mfm.processes.ranks import Process

pytestmark = pytest.mark.processes


# As `mfm` imports a command.
PROGRAM = """
from mfm.processes.startup import importing
with importing():
    import mfm.commands.train, two_ranks
two_ranks.main()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    words = [folder / "store", folder / "found.json"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), *words],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        _, told = rank.communicate(timeout=300)
        assert rank.returncode == 0, told
    return json.loads(words[1].read_text())


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_two_ranks_have_what_one_process_has(found, name, task):
    of = found[f"{name} {task}"]
    assert of["difference"] <= 1e-4 * of["step"], of
    assert of["losses"][0] == pytest.approx(of["losses"][1], rel=1e-6)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_what_the_loss_does_not_reach_stays_as_it_was(found, name, task):
    # With a weight decay, too, on one rank and on two.
    unreached = {"backbone.head.norm.weight", "backbone.head.norm.bias"}
    maps = task not in ("supervised", "simclr")  # those read what is pooled
    expected = unreached if maps and name.startswith("convnext") else set()
    one, two = found[f"{name} {task}"]["kept"]
    assert set(one) == set(two) == expected


def test_no_rank_waits_for_the_compiler(found):
    assert found["compiler"] is False


def test_batch_norm_over_ranks_is_refused_on_cpus_in_one_line():
    two = Process(rank=0, world=2, device=torch.device("cpu"))
    training = settings("mfm", batch=4, ranks=2, sync_batchnorm=True)
    with pytest.raises(UserError, match="sync_batchnorm is for GPUs"):
        Case(training, Model(backbone="resnet10t"), size=32, classes=0, process=two)
