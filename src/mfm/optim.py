"""Optimizer, parameter groups and learning rate."""

from __future__ import annotations

import math

import torch
from timm.optim.lamb import Lamb
from torch import nn

from mfm import config


def peak_rate(training: config.Training) -> float:
    """Absolute learning rate at the end of the warmup: lr * batch / lr_batch."""
    return training.optimizer.lr * training.batch / training.optimizer.lr_batch


def rate_share(schedule: config.Schedule, *, epochs: int, time: float) -> float:
    """Learning rate as a share of the peak, at `time` in epochs from the start.

    Linear from warmup_start to 1 over the warmup, then half a cosine from 1 to `end` over the
    remaining epochs. Per epoch, `time` is the number of whole epochs that are over.
    """
    if time < schedule.warmup_epochs:
        share = time / schedule.warmup_epochs
        return schedule.warmup_start + (1 - schedule.warmup_start) * share
    rest = epochs - schedule.warmup_epochs
    if rest <= 0:
        return 1.0
    progress = (time - schedule.warmup_epochs) / rest
    return schedule.end + (1 - schedule.end) * 0.5 * (1 + math.cos(math.pi * progress))


def rate(training: config.Training, *, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Absolute learning rate of one step."""
    within = step / steps_per_epoch if training.schedule.per == "step" else 0.0
    share = rate_share(training.schedule, epochs=training.epochs, time=epoch + within)
    return peak_rate(training) * share


def parameter_groups(model: nn.Module, settings: config.Optimizer) -> list[dict[str, object]]:
    """Parameters that decay and those that don't (section 3 of the design, last row)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if settings.decay == "all":
        return [{"params": parameters, "weight_decay": settings.weight_decay}]
    # 1-d parameters are exactly the biases, norms and scales.
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def create_optimizer(model: nn.Module, settings: config.Optimizer) -> torch.optim.Optimizer:
    """The optimizer; the training loop sets its rate before each step."""
    groups = parameter_groups(model, settings)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.betas[0], fused=True)
    return Lamb(groups, lr=settings.lr, betas=settings.betas)
