"""The ImageNet configurations, against the published numbers and both codes' rules."""

import functools
import math
import re

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn

from mfm.experiment import resolve
from mfm.experiment.demands import check_sizes, demands_of
from mfm.experiment.settings import load_yaml
from mfm.experiment.variants import Runs
from mfm.models.backbones import create_backbone
from mfm.models.reconstruction import ReconstructionModel
from mfm.objectives.supervised.settings import Finetuning
from mfm.training import optimizers
from mfm.training.settings import Optimizer, Schedule

STEPS = 626  # 1,281,167 images, batch 2048: a last, smaller step would be dropped
UPSTREAM, PAPER, VIT = ("imagenet-resnet50", "imagenet-resnet50-paper", "imagenet-vit-base")


@functools.cache
def experiment(name):
    return load_yaml(ROOT / f"configs/{name}.yaml")


def training(name, stage):
    found = experiment(name)
    return found.finetune if stage == "finetune" else found.pretrain["mfm"]


RUNS = [(name, stage) for name in (UPSTREAM, PAPER, VIT) for stage in ("pretrain", "finetune")]
each_run = pytest.mark.parametrize(("name", "stage"), RUNS)

# epochs, warmup epochs; first, highest, last rate at batch 2048; weight decay, betas, clipping
NUMBERS = {
    (UPSTREAM, "pretrain"): (300, 20, 1.2e-5, 1.2e-3, 0.0, 0.05, (0.9, 0.95), 3.0),
    (UPSTREAM, "finetune"): (100, 5, 1.2e-4, 1.2e-2, 0.0, 0.02, (0.9, 0.999), None),
    (PAPER, "pretrain"): (300, 20, 1e-6, 1.2e-3, 1e-5, 0.05, (0.9, 0.95), 3.0),
    (PAPER, "finetune"): (100, 5, 1e-4, 8e-3, 1e-6, 0.02, (0.9, 0.999), None),
    (VIT, "pretrain"): (300, 20, 1e-6, 1.2e-3, 1e-5, 0.05, (0.9, 0.95), 3.0),
    (VIT, "finetune"): (100, 5, 1e-6, 8e-3, 1e-6, 0.05, (0.9, 0.999), None),
}


@each_run
def test_batch_and_rates_are_the_designs_and_are_printed(name, stage):
    run = training(name, stage)
    epochs, warmup, first, peak, last, decay, betas, clip = NUMBERS[name, stage]
    assert run.batch == 2048
    assert (run.epochs, run.schedule.warmup_epochs, run.clip) == (epochs, warmup, clip)
    assert (run.optimizer.weight_decay, run.optimizer.betas) == (decay, betas)
    assert run.optimizer.decay == ("all" if name == UPSTREAM else "matrices")
    assert optimizers.peak_rate(run) == pytest.approx(peak, rel=1e-12)
    printed = [
        float(n) for n in re.findall(r"(?:from|to) ([\d.e-]+)", optimizers.describe_rates(run))
    ]
    assert printed == pytest.approx([first, peak, last], rel=1e-3)
    assert optimizers.absolute(run) == {"batch": "2048", "peak_learning_rate": f"{peak:g}"}
    # With fewer devices gradients are accumulated, and batch and rate stay.
    alone = run.model_copy(update={"ranks": 1})
    assert optimizers.describe_rates(alone) == optimizers.describe_rates(run)


def reference_rate(name, stage, step):
    """The rate of one step, from the numbers of the design alone."""
    epochs, warmup, first, peak, last, *_ = NUMBERS[name, stage]
    by_step = name != UPSTREAM and (name, stage) != (PAPER, "finetune")
    time = step / STEPS if by_step else step // STEPS
    if time < warmup:
        return first + (peak - first) * time / warmup
    if name == UPSTREAM:
        time, epochs = time - warmup, epochs - warmup
    return last + (peak - last) * (1 + math.cos(math.pi * time / epochs)) / 2


@each_run
def test_rates_of_all_epochs_and_steps_are_an_independent_formula(name, stage):
    run = training(name, stage)
    steps = range(0, run.epochs * STEPS, 1 if stage == "finetune" else 3)
    found = [
        optimizers.rate(run, epoch=n // STEPS, step=n % STEPS, steps_per_epoch=STEPS) for n in steps
    ]
    expected = [reference_rate(name, stage, n) for n in steps]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "stage", "scale"),
    [
        (PAPER, "pretrain", 1.0),
        (VIT, "pretrain", 1.0),
        *((VIT, "finetune", 0.8**n) for n in (0, 13)),
    ],
)
def test_the_papers_rates_are_those_of_the_scheduler_it_uses(name, stage, scale):
    run = training(name, stage)
    epochs, warmup, first, peak, last, *_ = NUMBERS[name, stage]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak * scale)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=epochs * STEPS,
        lr_min=last,
        warmup_lr_init=first,
        warmup_t=warmup * STEPS,
        cycle_limit=1,
        t_in_epochs=False,
    )
    for number in [*range(0, epochs * STEPS, 997), warmup * STEPS - 1, warmup * STEPS]:
        scheduler.step_update(number)
        epoch, step = divmod(number, STEPS)
        ours = optimizers.rate(run, epoch=epoch, step=step, steps_per_epoch=STEPS, scale=scale)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_recipes_are_those_of_the_design():
    upstream, paper, vit = (experiment(name) for name in (UPSTREAM, PAPER, VIT))
    pretrains = [found.pretrain["mfm"] for found in (upstream, paper, vit)]
    assert [run.recipe for run in pretrains] == ["upstream", "paper", "paper"]
    assert [run.low_pass for run in pretrains] == [0.5, 0.3, 0.5]
    assert [run.radius for run in pretrains] == [16, 16, 16]
    assert [run.crop.size for run in pretrains] == [224, 224, 224]
    assert [run.crop.area for run in pretrains] == [(0.2, 1.0)] * 3
    assert pretrains[0].crop.aspect == (0.8, 1.25)
    finetunes = [found.finetune for found in (upstream, paper, vit)]
    assert [run.crop.size for run in finetunes] == [160, 160, 224]
    assert [run.loss for run in finetunes] == ["bce", "bce", "ce"]
    assert [(run.mixup, run.cutmix) for run in finetunes] == [(0.1, 1.0), (0.1, 1.0), (0.8, 1.0)]
    assert [run.smoothing for run in finetunes] == [0.1, 0.0, 0.1]
    assert [run.randaugment.magnitude for run in finetunes] == [6, 6, 9]
    assert [run.optimizer.name for run in finetunes] == ["adamw", "lamb", "adamw"]
    assert (vit.finetune.erasing, vit.finetune.optimizer.layer_decay) == (0.25, 0.8)
    assert (vit.finetune.drop_path, vit.model.pooling) == (0.1, "mean")
    assert [(found.evaluate.resize, found.evaluate.crop) for found in (upstream, paper, vit)] == [
        (235, 224),
        (235, 224),
        (256, 224),
    ]
    for found in (upstream, paper, vit):
        assert len(found.seeds) >= 3
        check_sizes(demands_of(Runs(found)))


def groups_by_name(model, settings):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["weight_decay"], group.get("lr_scale", 1.0))
        for group in optimizers.parameter_groups(model, settings)
        for parameter in group["params"]
    }
    assert found.keys() == dict(model.named_parameters()).keys()
    return found


@pytest.mark.parametrize("name", [UPSTREAM, PAPER, VIT])
def test_parameters_decay_as_in_either_code(name):
    found = experiment(name)
    with torch.device("meta"):
        backbone = create_backbone(found.model, classes=0)
        model = ReconstructionModel(backbone, out_channels=3)
    decays = groups_by_name(model, found.pretrain["mfm"].optimizer)
    for key, parameter in model.named_parameters():
        exempt = name != UPSTREAM and (
            parameter.ndim == 1
            or key.endswith(".bias")
            or key in ("backbone.pos_embed", "backbone.cls_token")
        )
        assert decays[key] == (0.0 if exempt else 0.05, 1.0), key
    assert {0.0, 0.05} == {decay for decay, _ in decays.values()} | {0.0}


def test_layers_of_the_vit_learn_as_in_the_papers_code():
    found = experiment(VIT)
    run = resolve.finetune_job(found, "mfm", 0)
    with torch.device("meta"):
        model = run.training.build(run.inputs_of(classes=1000, rows=np.arange(1))).model
    groups = groups_by_name(model, run.training.optimizer)
    for key, parameter in model.named_parameters():
        # 14 layers: embeddings, 12 blocks, and the rest
        if key in ("cls_token", "pos_embed") or key.startswith("patch_embed."):
            layer = 0
        elif key.startswith("blocks."):
            layer = int(key.split(".")[1]) + 1
        else:
            layer = 13
        exempt = parameter.ndim == 1 or key in ("cls_token", "pos_embed")
        assert groups[key] == (0.0 if exempt else 0.05, pytest.approx(0.8 ** (13 - layer))), key
    assert {key.split(".")[0] for key in groups} >= {"fc_norm", "head", "pos_embed"}
    assert not [key for key in groups if key.startswith("norm.")]


def test_the_vit_is_the_papers():
    found = experiment(VIT)
    run = resolve.finetune_job(found, "mfm", 0)
    with torch.device("meta"):
        classifier = run.training.build(run.inputs_of(classes=1000, rows=np.arange(1))).model
        pretrained = create_backbone(found.model, classes=0, image_size=224)
    assert classifier.pos_embed.shape == (1, 197, 768)
    assert classifier.pos_embed.requires_grad
    assert classifier.global_pool == "avg"
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in classifier.blocks]
    assert rates == pytest.approx([0.1 * n / 11 for n in range(12)])
    assert not [m for m in pretrained.modules() if getattr(m, "drop_prob", 0.0)]
    # Pretraining ends in the backbone's own norm, finetuning in one after the pooling.
    assert isinstance(pretrained.norm, nn.LayerNorm)
    assert isinstance(classifier.norm, nn.Identity)
    assert isinstance(classifier.fc_norm, nn.LayerNorm)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_layer_decay_sets_each_groups_rate(name):
    model = timm.create_model("test_vit", num_classes=3)
    run = Finetuning(
        epochs=10,
        batch=8,
        optimizer=Optimizer(name=name, lr=0.1, lr_batch=8, layer_decay=0.5),
        schedule=Schedule(warmup_epochs=2, warmup_start=0.001),
    )
    optimizer = optimizers.create_optimizer(model, run.optimizer)
    whole = optimizers.set_rates(optimizer, run, epoch=2, step=0, steps_per_epoch=4)
    assert whole == pytest.approx(0.1)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert len(scales) > 3
    assert 1.0 in scales
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.1 * group["lr_scale"])


def test_headers_say_what_a_lab_has_to_know():
    for name in (UPSTREAM, PAPER, VIT):
        text = (ROOT / f"configs/{name}.yaml").read_text()
        for part in (f"--configfile configs/{name}.yaml", "computed and not measured", "8 A100"):
            if part == "8 A100" and name == VIT:
                part = "RTX 3090"
            assert part in text, (name, part)
        for part in ("Published top-1", "What has been run", "What has not", "Sources"):
            assert part in text, (name, part)


def test_upstreams_normalisation_and_the_classifier_it_keeps():
    """mfm/presets.py has mean 0.4 and std 0.2; pretrained=True of torchvision replaces nothing."""
    found = experiment(UPSTREAM)
    constants = ((0.4,) * 3, (0.2,) * 3)
    assert found.finetune.normalisation() == constants
    job = resolve.evaluate_job(found)
    assert (job.mean, job.std) == constants
    assert found.pretrain["mfm"].normalisation() == constants
    assert found.arms["supervised"].classifier == "keep"
    assert (found.pretrain["mfm"].radius, found.pretrain["mfm"].low_pass) == (16, 0.5)
    assert found.finetune.loss == "bce"
