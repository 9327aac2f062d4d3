"""Optimizer, parameter groups and learning rate."""

from __future__ import annotations

import inspect
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mfm.training.settings import Optimizer, Schedule, Training

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])


def peak_rate(training: Training) -> float:
    """Absolute learning rate at the end of the warmup: lr * batch / lr_batch."""
    return training.optimizer.lr * training.batch / training.optimizer.lr_batch


def rate_share(schedule: Schedule, *, epochs: int, time: float, scale: float = 1.0) -> float:
    """Learning rate as a share of the peak, at `time` in epochs from the start.

    Linear from warmup_start to `scale` over the warmup, then along a cosine from `scale` to `end`.
    Per epoch, `time` is the number of whole epochs that are over. `scale` is a layer's own peak
    (layer decay); as in the paper's code, the first and the last rate are the same for all layers.
    """
    first, last = min(schedule.warmup_start, scale), min(schedule.end, scale)
    if time < schedule.warmup_epochs:
        return first + (scale - first) * time / schedule.warmup_epochs
    origin = schedule.warmup_epochs if schedule.cosine_from == "warmup_end" else 0.0
    if epochs <= origin:
        return scale
    progress = (time - origin) / (epochs - origin)
    return last + (scale - last) * 0.5 * (1 + math.cos(math.pi * progress))


def rate(
    training: Training, *, epoch: int, step: int, steps_per_epoch: int, scale: float = 1.0
) -> float:
    """Absolute learning rate of one step, for layers with `scale` of the peak."""
    within = step / steps_per_epoch if training.schedule.per == "step" else 0.0
    time = epoch + within
    share = rate_share(training.schedule, epochs=training.epochs, time=time, scale=scale)
    return peak_rate(training) * share


def set_rates(
    optimizer: torch.optim.Optimizer,
    training: Training,
    *,
    epoch: int,
    step: int,
    steps_per_epoch: int,
) -> float:
    """Give each parameter group its learning rate for one step; returns the whole one."""
    time = {"epoch": epoch, "step": step, "steps_per_epoch": steps_per_epoch}
    for group in optimizer.param_groups:
        group["lr"] = rate(training, **time, scale=group.get("lr_scale", 1.0))
    return rate(training, **time)


def describe_rates(training: Training) -> str:
    """The absolute learning rates of a run, in words."""
    schedule, peak = training.schedule, peak_rate(training)
    first = f"from {peak * schedule.warmup_start:.4g} " if schedule.warmup_epochs else ""
    decay = training.optimizer.layer_decay
    layers = "" if decay == 1 else f", each layer {decay:g} of the one above"
    return f"learning rate {first}to {peak:.4g}, then to {peak * schedule.end:.4g}{layers}"


def absolute(training: Training) -> dict[str, str]:
    """What follows from a learning rate that is written for another batch, to be stored."""
    return {"batch": str(training.batch), "peak_learning_rate": f"{peak_rate(training):.6g}"}


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """Parameters by weight decay and by layer.

    With layer decay, a group's `lr_scale` is its share of the learning rate; `model` has to be
    timm's then, which knows its layers.
    """
    exempt = set() if settings.decay == "all" else _without_decay(model)
    if settings.layer_decay != 1:
        # timm re-exports it without saying so to type checkers. The import takes half a second.
        from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

        groups: list[dict[str, Any]] = param_groups_layer_decay(
            model,
            weight_decay=settings.weight_decay,
            no_weight_decay_list=exempt,
            weight_decay_exclude_1d=settings.decay == "matrices",
            layer_decay=settings.layer_decay,
        )
        return groups
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if settings.decay == "all":
        return [{"params": list(parameters.values()), "weight_decay": settings.weight_decay}]
    # 1-d parameters are exactly the biases, norms and scales.
    decayed = [p for name, p in parameters.items() if p.ndim > 1 and name not in exempt]
    others = [p for name, p in parameters.items() if p.ndim <= 1 or name in exempt]
    return [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _without_decay(model: nn.Module) -> set[str]:
    """Names that the backbone keeps from weight decay: a ViT's position embedding, class token."""
    found = set()
    for prefix, module in model.named_modules():
        if hasattr(module, "no_weight_decay"):
            names: set[str] = module.no_weight_decay()
            found |= {f"{prefix}.{name}" if prefix else name for name in names}
    return found


def uncompiled(kind: Kind) -> Kind:
    """An optimizer without what torch wraps its methods in to keep its compiler out of them.

    The wrappers import the compiler, which takes a second and which nothing here uses.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)  # type: ignore[return-value]


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW, which walks through each weight in the order it lies in memory.

    Its CPU kernel copies whatever is not contiguous, as channels_last convolution weights are
    not: 17 to 35 ms a step for ResNet-18 on one thread, against 8 to 12 ms for permuted views of
    the same memory that are contiguous. The update is element by element, so the bits are the
    same. State keeps the parameter's own shape: checkpoints are those of torch.optim.AdamW.
    """

    def _init_group(
        self, group: dict[str, Any], params_with_grad: list[Tensor], *lists: list[Tensor]
    ) -> bool:
        has_complex: bool = super()._init_group(group, params_with_grad, *lists)  # type: ignore[no-untyped-call]
        orders = [_memory_order(parameter) for parameter in params_with_grad]
        # Last come the step counters, scalars. An empty list is one that AdamW doesn't use.
        for tensors in (params_with_grad, *lists[:-1]):
            tensors[:] = [
                tensor if order is None else tensor.permute(order)
                for tensor, order in zip(tensors, orders, strict=bool(tensors))
            ]
        return has_complex


def _memory_order(tensor: Tensor) -> list[int] | None:
    """Dimensions in the order that makes `tensor` contiguous; None where it is so already.

    On a GPU, whose kernel copies nothing, it stays as it is.
    """
    if tensor.is_contiguous() or tensor.device.type != "cpu":
        return None
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def create_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer; the training loop sets its rate before each step."""
    groups = parameter_groups(model, settings)
    if settings.name == "adamw":
        return uncompiled(AdamW)(groups, lr=settings.lr, betas=settings.betas, fused=True)
    if settings.name == "sgd":
        sgd = uncompiled(torch.optim.SGD)
        return sgd(groups, lr=settings.lr, momentum=settings.betas[0], fused=True)
    from timm.optim.lamb import Lamb  # half a second

    return uncompiled(Lamb)(groups, lr=settings.lr, betas=settings.betas)
