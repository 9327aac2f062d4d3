import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy
from torch import nn

from mfm.data.loading.augment import erase, plan_mix
from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Step
from mfm.numerics.pixels import normalise
from mfm.objectives.supervised.loss import (
    SupervisedObjective,
    classification_losses,
    smoothed_targets,
)
from mfm.objectives.supervised.settings import Finetuning

CLASSES = 5
losses = pytest.mark.parametrize("loss", ["bce", "ce"])


def direct_loss(logits, targets, loss):
    """From the definitions, one number at a time."""
    if loss == "bce":
        sigmoid = [1 / (1 + math.exp(-z)) for z in logits]
        terms = [
            -t * math.log(p) - (1 - t) * math.log(1 - p)
            for t, p in zip(targets, sigmoid, strict=True)
        ]
        return sum(terms) / len(terms)
    total = sum(math.exp(z) for z in logits)
    return -sum(t * math.log(math.exp(z) / total) for t, z in zip(targets, logits, strict=True))


def test_upstream_targets_on_imagenet():
    targets = smoothed_targets(torch.tensor([3, 999]), classes=1000, smoothing=0.1)
    expected = torch.full((2, 1000), 0.1 / 999)
    expected[0, 3] = expected[1, 999] = 0.9
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets, expected)


def test_smoothing_over_all_classes_is_timms():
    labels = torch.tensor([3, 0, 4])
    found = smoothed_targets(labels, classes=CLASSES, smoothing=0.1, over="all")
    torch.testing.assert_close(
        found, mixup_target(labels, CLASSES, lam=1.0, smoothing=0.1), rtol=1e-6, atol=1e-7
    )
    assert found[0, 3].item() == pytest.approx(0.9 + 0.1 / CLASSES)


@given(
    classes=st.integers(2, 12),
    smoothing=st.floats(0, 0.99),
    data=st.data(),
)
@settings(deadline=None, max_examples=50)
def test_targets_are_smoothed_over_the_other_classes(classes, smoothing, data):
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=6))
    targets = smoothed_targets(torch.tensor(labels), classes=classes, smoothing=smoothing)
    for label, row in zip(labels, targets.tolist(), strict=True):
        assert sum(row) == pytest.approx(1, abs=1e-6)
        assert row.pop(label) == pytest.approx(1 - smoothing, abs=1e-6)
        assert row == pytest.approx([smoothing / (classes - 1)] * (classes - 1), abs=1e-6)


def test_targets_without_smoothing_are_one_hot():
    targets = smoothed_targets(torch.tensor([2, 0]), classes=3, smoothing=0.0)
    assert targets.tolist() == [[0, 0, 1], [1, 0, 0]]


@losses
@given(data=st.data(), n=st.integers(1, 4), smoothing=st.floats(0, 0.9))
@settings(deadline=None, max_examples=40)
def test_losses_are_their_definitions(loss, data, n, smoothing):
    row = st.lists(st.floats(-8, 8), min_size=CLASSES, max_size=CLASSES)
    logits = torch.tensor(data.draw(st.lists(row, min_size=n, max_size=n)), dtype=torch.float64)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    targets = smoothed_targets(labels, classes=CLASSES, smoothing=smoothing).double()
    found = classification_losses(logits, targets, loss=loss)
    expected = [
        direct_loss(z, t, loss) for z, t in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@losses
def test_losses_are_finite_for_extreme_logits(loss):
    logits = torch.tensor([[1e4, -1e4, 0, 0, 0]])
    targets = smoothed_targets(torch.tensor([1]), classes=CLASSES, smoothing=0.1)
    assert classification_losses(logits, targets, loss=loss).isfinite().all()


def test_normalise_is_affine_by_channel():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    found = normalise(images, mean=mean, std=std)
    for c in range(3):
        torch.testing.assert_close(found[:, c], (images[:, c] - mean[c]) / std[c])


# A whole step


def draw(n=8, size=6):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    return Batch(images, labels, torch.arange(n))


def part(batch, rows):
    return Batch(batch.images[rows], batch.labels[rows], batch.positions[rows])


def linear_model(size=6):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, CLASSES))


def step(epoch=2, number=3, n=8):
    return Step(epoch=epoch, number=number, positions=np.arange(n), micro_batches=())


def training(**values):
    return Finetuning(batch=8, micro_batch=8, **values)


MIXES = {
    "none": {},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.1, "cutmix": 1.0},
}
mixes = pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)


@losses
@mixes
@pytest.mark.parametrize("number", range(4))
def test_a_step_is_the_mean_loss_of_mixed_images_and_targets(loss, mix, number):
    settings = training(loss=loss, smoothing=0.1, **mix)
    model, batch = linear_model(), draw()
    objective = SupervisedObjective(settings, classes=CLASSES, seed=9)
    found = objective(model, batch, step(number=number))

    images = (batch.images / 255 - torch.tensor(settings.mean).view(3, 1, 1)) / torch.tensor(
        settings.std
    ).view(3, 1, 1)
    # smoothing before mixing
    targets = torch.full((8, CLASSES), 0.1 / (CLASSES - 1))
    targets[range(8), batch.labels] = 0.9
    alphas = {"mixup": 0, "cutmix": 0} | mix
    plan = plan_mix(**alphas, seed=9, epoch=2, step=number)
    if plan is not None:
        images, targets = plan.images(images), plan.targets(targets, size=6)
    logits = model(images)
    expected = sum(
        direct_loss(z, t, loss) for z, t in zip(logits.tolist(), targets.tolist(), strict=True)
    )
    assert found.item() == pytest.approx(expected / 8, rel=1e-5)


@losses
@mixes
@pytest.mark.parametrize("cuts", [(4,), (2, 6), (2, 4, 6)])
def test_micro_batches_add_up_to_the_step(loss, mix, cuts):
    objective = SupervisedObjective(
        training(loss=loss, smoothing=0.1, **mix), classes=CLASSES, seed=9
    )
    model, batch = linear_model(), draw()
    edges = [0, *cuts, 8]
    whole = objective(model, batch, step())
    whole.backward()
    gradient = model[1].weight.grad.clone()
    model.zero_grad()
    total = 0.0
    for low, high in itertools.pairwise(edges):
        share = objective(model, part(batch, slice(low, high)), step())
        share.backward()
        total += share.item()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(model[1].weight.grad, gradient, rtol=1e-4, atol=1e-6)


@losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_float32(loss, dtype):
    objective = SupervisedObjective(training(loss=loss, smoothing=0.1), classes=CLASSES, seed=0)
    model, batch = linear_model(), draw()
    rounded = objective(lambda images: model(images).to(dtype), batch, step())
    expected = objective(lambda images: model(images).to(dtype).float(), batch, step())
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, expected)


@losses
def test_the_loss_is_float32_under_autocast(loss):
    objective = SupervisedObjective(training(loss=loss), classes=CLASSES, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        value = objective(linear_model(), draw(), step())
    assert value.dtype == torch.float32


@mixes
def test_targets_above_the_threshold_are_ones_as_in_timm(mix):
    settings = training(loss="bce", bce_threshold=0.2, **mix)
    model, batch = linear_model(), draw()
    found = SupervisedObjective(settings, classes=CLASSES, seed=9)(model, batch, step())
    images = normalise(batch.images / 255, mean=settings.mean, std=settings.std)
    targets = smoothed_targets(batch.labels, classes=CLASSES, smoothing=0.0)
    plan = plan_mix(**({"mixup": 0, "cutmix": 0} | mix), seed=9, epoch=2, step=step().number)
    if plan is not None:
        images, targets = plan.images(images), plan.targets(targets, size=6)
    reference = BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2)
    torch.testing.assert_close(found, reference(model(images), targets))


def test_images_are_erased_after_normalisation_and_before_mixing():
    rows = np.arange(100, 108)
    settings = training(erasing=0.8, mixup=0.5)
    seen = []

    def model(images):
        seen.append(images.clone())
        return images.mean(dim=(2, 3)) @ torch.ones(3, CLASSES)

    batch = draw()
    SupervisedObjective(settings, classes=CLASSES, seed=9, rows=rows)(model, batch, step())
    images = normalise(batch.images / 255, mean=settings.mean, std=settings.std)
    keyed = rows[batch.positions.numpy()]
    erase(images, probability=0.8, seed=9, epoch=2, rows=keyed)
    plan = plan_mix(mixup=0.5, cutmix=0, seed=9, epoch=2, step=step().number)
    torch.testing.assert_close(seen[0], plan.images(images))
