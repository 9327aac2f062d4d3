import sys

import pytest

from mfm.errors import UserError
from mfm.training.loop import EpochMetrics
from mfm.training.tensorboard import FOLDER, Board


def row(epoch):
    values = {"lr": 0.1, "images_per_second": 5.0, "seconds": 1.0, "peak_memory_mb": 1.0}
    return EpochMetrics(epoch=epoch, loss=1 / epoch, **values)


def scalars(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / FOLDER))
    events.Reload()
    assert len(events.Tags()["scalars"]) == 6
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_a_resumed_run_has_each_epoch_once(tmp_path):
    first = Board(tmp_path, [])
    for epoch in (1, 2, 3):
        first.add(row(epoch))  # killed after this, with epoch 3 in no checkpoint
    again = Board(tmp_path, [row(1), row(2)])
    assert [step for step, _ in scalars(tmp_path)] == [1, 2]
    for epoch in (3, 4):
        again.add(row(epoch))
    again.close()
    assert scalars(tmp_path) == [(epoch, pytest.approx(1 / epoch)) for epoch in (1, 2, 3, 4)]


def test_a_missing_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(UserError, match="package tensorboard is missing"):
        Board(tmp_path, [])
