import io
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mfm.objectives.supervised.settings import Finetuning
from mfm.training.optimizers import create_optimizer, parameter_groups, peak_rate, rate, rate_share
from mfm.training.settings import Optimizer, Schedule

STEPS = 5

# dist_train.sh of https://github.com/CoinCheung/MFM
UPSTREAM = {
    "pretrain": Finetuning(
        epochs=300,
        batch=2048,
        optimizer=Optimizer(lr=1.2e-3, lr_batch=2048),
        schedule=Schedule(warmup_epochs=20, warmup_start=0.01),
    ),
    "finetune": Finetuning(
        epochs=100,
        batch=2048,
        optimizer=Optimizer(lr=1.2e-2, lr_batch=2048),
        schedule=Schedule(warmup_epochs=5, warmup_start=0.01),
    ),
}
FIGURES = {"pretrain": (300, 20, 1.2e-3), "finetune": (100, 5, 1.2e-2)}


def paper(batch):
    return Finetuning(
        epochs=300,
        batch=batch,
        optimizer=Optimizer(lr=3e-4, lr_batch=512),
        schedule=Schedule(
            warmup_epochs=20, warmup_start=2.5e-7 / 3e-4, end=2.5e-6 / 3e-4, per="step"
        ),
    )


def curve(training, steps=STEPS):
    """Rate of every step of every epoch."""
    return [
        [rate(training, epoch=epoch, step=step, steps_per_epoch=steps) for step in range(steps)]
        for epoch in range(training.epochs)
    ]


@pytest.mark.parametrize("stage", UPSTREAM)
def test_upstream_rates(stage):
    epochs, warmup, peak = FIGURES[stage]
    for epoch, rates in enumerate(curve(UPSTREAM[stage])):
        if epoch < warmup:
            expected = peak * (0.01 + 0.99 * epoch / warmup)
        else:
            angle = math.pi * (epoch - warmup) / (epochs - warmup)
            expected = peak * math.cos(angle / 2) ** 2
        assert rates == [rates[0]] * STEPS
        assert rates[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("stage", UPSTREAM)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's note on epoch arguments
def test_upstream_rates_are_torchs_schedulers(stage):
    epochs, warmup, peak = FIGURES[stage]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedulers = torch.optim.lr_scheduler
    schedule = schedulers.SequentialLR(
        optimizer,
        [
            schedulers.LinearLR(optimizer, start_factor=0.01, total_iters=warmup),
            schedulers.CosineAnnealingLR(optimizer, T_max=epochs - warmup),
        ],
        milestones=[warmup],
    )
    for rates in curve(UPSTREAM[stage], steps=1):
        assert rates == [pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)]
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("batch", [512, 2048, 64])
def test_paper_rates(batch):
    scale = batch / 512
    first, peak, last = 2.5e-7 * scale, 3e-4 * scale, 2.5e-6 * scale
    for epoch, rates in enumerate(curve(paper(batch))):
        for step, value in enumerate(rates):
            done = epoch * STEPS + step
            if done < 20 * STEPS:
                expected = first + (peak - first) * done / (20 * STEPS)
            else:
                angle = math.pi * (done - 20 * STEPS) / (280 * STEPS)
                expected = last + (peak - last) * (1 + math.cos(angle)) / 2
            assert value == pytest.approx(expected, rel=1e-12)


def test_paper_rates_at_the_corners():
    first = rate(paper(2048), epoch=0, step=0, steps_per_epoch=626)
    peak = rate(paper(2048), epoch=20, step=0, steps_per_epoch=626)
    last = rate(paper(2048), epoch=299, step=625, steps_per_epoch=626)
    assert first == pytest.approx(1e-6)
    assert peak == pytest.approx(1.2e-3)
    assert last == pytest.approx(1e-5, rel=1e-5)  # a step before the cosine's end


schedules = st.builds(
    Schedule,
    warmup_epochs=st.floats(0, 30),
    warmup_start=st.floats(0, 1),
    end=st.floats(0, 1),
    per=st.sampled_from(["epoch", "step"]),
)


@given(schedule=schedules, epochs=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_rates_rise_to_the_peak_and_fall_to_the_end(schedule, epochs):
    times = [epochs * i / 200 for i in range(201)]
    shares = [rate_share(schedule, epochs=epochs, time=time) for time in times]
    tolerance = 1e-12
    low = min(schedule.warmup_start, schedule.end)
    assert all(low - tolerance <= share <= 1 + tolerance for share in shares)
    rising = [s for s, time in zip(shares, times, strict=True) if time < schedule.warmup_epochs]
    falling = shares[len(rising) :]
    assert all(a <= b + tolerance for a, b in itertools.pairwise(rising))
    assert all(a >= b - tolerance for a, b in itertools.pairwise(falling))
    assert shares[0] == pytest.approx(schedule.warmup_start if schedule.warmup_epochs else 1)
    if schedule.warmup_epochs < epochs:
        assert shares[-1] == pytest.approx(schedule.end)


@given(lr=st.floats(1e-5, 1), batch=st.integers(1, 4096), lr_batch=st.integers(1, 4096))
@settings(deadline=None, max_examples=40)
def test_the_rate_is_linear_in_the_batch(lr, batch, lr_batch):
    training = Finetuning(batch=batch, optimizer=Optimizer(lr=lr, lr_batch=lr_batch))
    assert peak_rate(training) == pytest.approx(lr * batch / lr_batch)
    assert rate(training, epoch=0, step=0, steps_per_epoch=9) == pytest.approx(peak_rate(training))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 6, 3)
        self.scale = nn.Parameter(torch.ones(6))
        self.temperature = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(6, 2)


def decays(model, settings):
    """Weight decay of each parameter by name; fails on one that is in two groups or in none."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names[id(parameter)], group["weight_decay"])
        for group in parameter_groups(model, settings)
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_every_parameter_decays_upstream():
    model = Net()
    expected = {name: 0.05 for name, _ in model.named_parameters()}
    assert decays(model, Optimizer(weight_decay=0.05, decay="all")) == expected


def test_only_matrices_decay_in_the_paper():
    assert decays(Net(), Optimizer(weight_decay=0.05, decay="matrices")) == {
        "stem.weight": 0.05,
        "conv.weight": 0.05,
        "head.weight": 0.05,
        "conv.bias": 0.0,
        "head.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "scale": 0.0,
        "temperature": 0.0,
    }


@pytest.mark.parametrize("rule", ["all", "matrices"])
def test_frozen_parameters_are_left_out(rule):
    model = Net()
    model.stem.requires_grad_(False)
    model.norm.requires_grad_(False)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(decays(model, Optimizer(decay=rule))) == trained


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_optimizers_take_the_settings(name):
    settings = Optimizer(name=name, lr=0.5, betas=(0.8, 0.95), weight_decay=0.02, decay="matrices")
    optimizer = create_optimizer(Net(), settings)
    assert type(optimizer).__name__.lower() == name
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]
    for group in optimizer.param_groups:
        assert group["lr"] == 0.5
        if name == "sgd":
            assert group["momentum"] == 0.8
        else:
            assert tuple(group["betas"]) == (0.8, 0.95)


def test_adamw_decay_is_decoupled():
    # without gradients a step is the decay alone: w <- (1 - lr * decay) w
    model = Net()
    settings = Optimizer(name="adamw", lr=0.5, weight_decay=0.1, decay="matrices")
    optimizer = create_optimizer(model, settings)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name])


def train_convolutions(optimizer_of, memory_format, *, steps=4, resume_after=None):
    """Weights and optimizer after a few steps of a small network; optionally saved and loaded."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, (1, 3))
    ).to(memory_format=memory_format)
    model[2].bias.requires_grad_(False)
    optimizer = optimizer_of(model)
    for step in range(steps):
        if step == resume_after:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            optimizer = optimizer_of(model)
            optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        images = torch.randn(2, 3, 7, 7).to(memory_format=memory_format)
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model, optimizer


def ours(model):
    settings = Optimizer(lr=0.1, betas=(0.8, 0.9), weight_decay=0.1, decay="matrices")
    return create_optimizer(model, settings)


def torchs(model):
    groups = parameter_groups(model, Optimizer(weight_decay=0.1, decay="matrices"))
    return torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9), fused=True)


def assert_equal_state(ours, theirs):
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for number, values in ours["state"].items():
        for name, tensor in values.items():
            assert torch.equal(tensor, theirs["state"][number][name])


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_adamw_gives_the_bits_and_the_state_of_torchs(memory_format):
    model, optimizer = train_convolutions(ours, memory_format)
    expected, reference = train_convolutions(torchs, memory_format)
    for ours_, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours_, theirs)
        assert ours_.stride() == theirs.stride()
    assert_equal_state(optimizer.state_dict(), reference.state_dict())


def test_adamw_copies_no_weight():
    model, optimizer = train_convolutions(ours, torch.channels_last)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.profiler.profile() as profile:
        optimizer.step()
    assert "aten::clone" not in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("resumed", [ours, torchs])
def test_adamw_resumes_with_the_same_bits(resumed):
    # also from a checkpoint that torch's own class wrote
    def optimizer_of(model):
        return optimizers.pop(0)(model)

    optimizers = [resumed, ours]
    model, _ = train_convolutions(optimizer_of, torch.channels_last, resume_after=2)
    expected, _ = train_convolutions(ours, torch.channels_last)
    for parameter, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, other)
