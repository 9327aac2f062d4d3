"""Memory of a step: how many images fit is found by trying, and gradients don't depend on it."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch
from backbones import SIZE, SMALL
from test_training import assert_same_bits
from two_ranks import CLASSES, IMAGES, Loader

from benchmarks.case import Case, settings
from mfm.data.loading.order import Plan
from mfm.errors import UserError
from mfm.objectives.masking import objective as masking
from mfm.objectives.mfm import objective as frequencies
from mfm.objectives.restoration import objective as restoration
from mfm.processes.ranks import Process
from mfm.training import memory
from mfm.training.memory import Trial
from mfm.training.task import Inputs


def trial_of(case):
    """What the case's training tries before its first step."""
    trainer = case.trainer
    return Trial(
        model=trainer.model,
        task=trainer.setup.task,
        plan=trainer.plan,
        training=trainer.training,
        size=trainer.setup.size,
        channels=3,
        number_format=trainer.number_format,
        process=trainer.process,
    )


def limited(task, limit, *, backbone="vit_tiny", **given):
    """A trial where so many images at once have room, and what it tried."""
    given = {"batch": 24, "precision": "fp32", **given}
    classes = 10 if task == "finetune" else 0
    trial = trial_of(Case(settings(task, **given), SMALL[backbone], size=SIZE, classes=classes))
    tried, before, own = [], [], trial.task.objective

    def objective(model, batch, step):
        tried.append(len(batch.images) // trial.plan.views)
        assert all(each() is None for each in before), "what didn't fit is still there"
        loss = own(model, batch, step)
        if tried[-1] > limit:
            before.append(weakref.ref(loss))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    task = dataclasses.replace(trial.task, objective=objective)
    return dataclasses.replace(trial, task=task), tried


@pytest.mark.parametrize(
    ("task", "given", "limit", "fits"),
    [
        ("mfm", {}, 24, 24),
        ("mfm", {}, 11, 8),
        ("mfm", {"micro_batch": 7}, 11, 6),
        ("mfm", {}, 0, 0),
        ("mae", {}, 1, 1),
        ("finetune", {"mixup": 0.2}, 3, 2),  # in pairs
        ("simclr", {}, 24, 24),
        ("simclr", {}, 23, 0),  # compares the whole batch
    ],
)
def test_the_most_images_that_fit_are_found_and_no_trace_is_left(task, given, limit, fits):
    trial, tried = limited(task, limit, **given)
    before = {name: value.clone() for name, value in trial.model.state_dict().items()}
    assert trial.most() == fits
    assert_same_bits(before, trial.model.state_dict())
    assert all(each.grad is None for each in trial.model.parameters())
    assert tried == sorted(tried, reverse=True)
    twice = 0 < fits < trial.plan.batch
    assert tried.count(fits) == (2 if twice else bool(fits)), "gradients are added to"


def test_batch_norm_keeps_its_statistics_and_gets_no_image_alone():
    trial, tried = limited("mfm", 0, backbone="resnet18")
    before = {name: value.clone() for name, value in trial.model.state_dict().items()}
    assert trial.most() == 0
    assert tried == [24, 12, 8, 6, 4, 3, 2]
    assert_same_bits(before, trial.model.state_dict())


def told(monkeypatch, *, found, backbone="vit_tiny", task="mfm", **given):
    """What a GPU's run says, or is refused with, where its ranks have found room for so many."""
    trial, _ = limited(task, 24, backbone=backbone, **given)
    gpu = Process(rank=0, world=1, device=torch.device("cuda", 0))
    card = type("Card", (), {"total_memory": 8e9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2.5e9)
    monkeypatch.setattr(Trial, "most", lambda self: found[0])
    monkeypatch.setattr(memory, "gather_objects", lambda value, process: found)
    return dataclasses.replace(trial, process=gpu).check()


def test_what_a_step_takes_is_said_before_the_first(monkeypatch):
    assert told(monkeypatch, found=[24, 24]) == ", 2500 of the GPU's 8000 MB"
    trial, _ = limited("mfm", 0)
    assert trial.check() == "", "a CPU's memory isn't tried"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"found": [24, 6]},  # alike on all ranks
            "^24 images at once don't fit the GPU's 8000 MB: set micro_batch: 6, which fits; the "
            "rest is accumulated$",
        ),
        ({"found": [8], "backbone": "resnet18"}, "and batch norm sees fewer images$"),
        ({"found": [0]}, "nor do fewer: choose smaller images or another network$"),
        ({"found": [0], "task": "simclr"}, "micro_batch can't be lowered for this task: lower ba"),
    ],
)
def test_a_gpu_without_room_is_one_line_with_what_fits(monkeypatch, values, message):
    with pytest.raises(UserError, match=message):
        told(monkeypatch, **values)


def test_runs_that_share_a_gpu_are_told_so(monkeypatch):
    monkeypatch.setenv("MFM_RUNS_PER_GPU", "4")
    with pytest.raises(
        UserError, match=r"8000 MB, which runs share here \(MFM_RUNS_PER_GPU\): set"
    ):
        told(monkeypatch, found=[8])


@pytest.mark.parametrize("task", ["mfm", "simmim", "mae", "denoise"])
def test_gradients_do_not_depend_on_how_many_images_are_held(monkeypatch, task):
    for module in (frequencies, masking, restoration):
        monkeypatch.setattr(module, "to_float", lambda images: images.double() / 255)
    training = settings(task, batch=8)
    inputs = Inputs(
        model=SMALL["vit_tiny"], size=SIZE, classes=CLASSES, rows=np.arange(IMAGES), seed=1
    )
    built = training.build(inputs)
    built.model.double()

    def gradients(held):
        plan = Plan(images=IMAGES, batch=8, micro_batch=held, seed=1, rank=0, world=1, pairs=False)
        step, batches = next(Loader().train(plan, 0, 0))
        built.model.zero_grad()
        for batch in batches:
            built.objective(built.model, batch, step).backward()
        return {name: p.grad for name, p in built.model.named_parameters() if p.grad is not None}

    whole = gradients(8)
    for held in (4, 1):
        for name, gradient in gradients(held).items():
            torch.testing.assert_close(gradient, whole[name], rtol=1e-12, atol=1e-14)
