"""Device of a process: what is asked for, or what there is."""

import pytest
import torch

from mfm.errors import UserError
from mfm.experiment.resolve import experiment_hash
from mfm.experiment.settings import Experiment
from mfm.numerics import precision
from mfm.processes import devices, gpus, ranks
from mfm.settings.section import dumps


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "found"),
    [
        ("auto", False, False, "cpu"),
        ("auto", True, False, "cuda"),
        ("auto", False, True, "mps"),
        ("cpu", True, True, "cpu"),
        ("mps", True, True, "mps"),
    ],
)
def test_what_is_asked_for_is_taken_and_else_a_gpu_before_the_cpu(wanted, cuda, mps, found):
    assert devices.kind(wanted, cuda=cuda, mps=mps) == found


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_told(wanted):
    with pytest.raises(UserError, match=rf"^device: {wanted}, and .*: set device: auto$"):
        devices.kind(wanted, cuda=False, mps=False)


def test_a_variable_that_is_no_device_is_told():
    with pytest.raises(UserError, match="MFM_DEVICE is gpu: set auto, cpu, cuda, mps"):
        devices.kind("gpu", cuda=False, mps=False)


def test_a_process_computes_on_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with ranks.process_group() as process:
        assert process.device.type == "mps"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="set ranks: 1"), ranks.process_group():
        pass
    monkeypatch.setenv("MFM_DEVICE", "cpu")
    with ranks.process_group() as process:
        assert process.device.type == "cpu"


def test_whoever_computes_on_the_cpu_takes_no_gpu(monkeypatch):
    monkeypatch.setattr(gpus, "machine_gpus", lambda: ["a GPU"])
    assert gpus.visible_gpus() == ["a GPU"]
    monkeypatch.setenv("MFM_DEVICE", "cpu")
    assert gpus.visible_gpus() == []


def test_apples_gpus_have_no_float64():
    assert precision.wide(torch.device("mps")) == torch.float32
    assert {precision.wide(torch.device(kind)) for kind in ("cpu", "cuda")} == {torch.float64}
    assert precision.resolve("auto", torch.device("mps")) == "fp32"


def test_experiments_of_before_the_key_are_the_same_and_no_device_is_another_question():
    assert '"device"' not in dumps(Experiment())
    assert '"device": "cpu"' in dumps(Experiment(device="cpu"))
    assert experiment_hash(Experiment(device="cpu")) == experiment_hash(Experiment())
