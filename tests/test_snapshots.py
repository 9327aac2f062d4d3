import copy

import pytest
import safetensors.torch
import torch
from mfm.objectives.snapshots import Snapshots
from torch import nn

from mfm.errors import UserError
from mfm.objectives import snapshots
from mfm.objectives.mfm.task import MaskedFrequencyModeling


@pytest.fixture
def task():
    return MaskedFrequencyModeling(recipe="upstream", radius=3.0)


def create_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
    ).train()


def test_a_few_steps_are_kept_and_the_model_is_left_alone(task, tmp_path):
    images = torch.rand(2, 3, 16, 16)
    model = create_model()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    (tmp_path / "s").mkdir()
    (tmp_path / "s/step000000007.safetensors").write_bytes(b"of a run before")
    keep = Snapshots(tmp_path / "s", task=task, images=images, epochs=4, steps_per_epoch=25)
    for done in range(101):
        keep(model, done)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    found = snapshots.load(tmp_path / "s")
    assert list(found) == [0, 0.04, 0.12, 0.4, 1.2, 4]
    model.eval()
    for name, low in (("low", True), ("high", False)):
        keep_low = torch.tensor([low, low])
        prediction = model(task.corrupt(images, keep_low))
        assert torch.equal(found[1.2][f"prediction_{name}"], prediction.half())
        expected = task.image_losses(prediction, images, keep_low).mean().item()
        assert found[1.2][f"loss_{name}"].item() == pytest.approx(expected, rel=1e-6)


def test_a_resumed_run_writes_what_it_lost(task, tmp_path):
    images = torch.rand(1, 3, 16, 16)
    keep = Snapshots(tmp_path, task=task, images=images, epochs=1, steps_per_epoch=10)
    for done in (0, 1):
        keep(create_model(), done)
    (tmp_path / "step000000001.safetensors").unlink()
    keep(create_model(), 1)
    assert list(snapshots.load(tmp_path)) == [0, 0.1]


def test_a_damaged_one_is_named(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "step1.safetensors")
    path = tmp_path / "step1.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"step1\.safetensors is damaged"):
        snapshots.load(tmp_path)
