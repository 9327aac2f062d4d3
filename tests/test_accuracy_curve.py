import copy

import pytest
import torch
from torch import nn

from mfm.data.loading.batches import Batch
from mfm.objectives.supervised.accuracy_curve import AccuracyCurve
from mfm.objectives.supervised.settings import Finetuning
from mfm.reporting.figures.draw import read_curve
from mfm.settings.section import parse

TRAINING = parse(
    Finetuning,
    {"epochs": 25, "batch": 8, "precision": "fp32", "curve_images": 12},
    where="test",
)


def batches():
    draws = torch.Generator().manual_seed(0)
    return [
        Batch(
            torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=draws),
            torch.randint(0, 4, (n,), generator=draws),
            torch.arange(n),
        )
        for n in (8, 4)
    ]


def create_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 4)
    ).train()


def test_some_epochs_are_measured_and_the_model_is_left_alone(tmp_path):
    model = create_model()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    file = tmp_path / "accuracy.csv"
    file.write_text("epoch,top1\n0,99.0\n7,99.0\n")  # of a run before
    curve = AccuracyCurve(file, training=TRAINING, images=batches(), steps_per_epoch=3)
    for done in range(25 * 3 + 1):
        curve(model, done)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    found = read_curve(file)
    assert found["epoch"].tolist() == [0, 2, 5, 8, 10, 12, 15, 18, 20, 22, 25]
    model.eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (TRAINING.mean, TRAINING.std))
    hits = [
        model((batch.images / 255 - mean) / std).argmax(1) == batch.labels for batch in batches()
    ]
    expected = 100 * torch.cat(hits).double().mean().item()
    assert found["top1"].tolist() == pytest.approx([expected] * 11)


def test_a_resumed_run_measures_what_it_lost(tmp_path):
    curve = AccuracyCurve(
        tmp_path / "a.csv", training=TRAINING, images=batches(), steps_per_epoch=1
    )
    for done in (0, 2, 5, 2, 5):
        curve(create_model(), done)
    assert read_curve(tmp_path / "a.csv")["epoch"].tolist() == [0, 2, 5]


def test_nothing_measured_is_an_empty_table(tmp_path):
    assert read_curve(tmp_path / "none.csv").empty
