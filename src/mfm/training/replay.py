"""Replay of a step whose numbers went bad: what it computes, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Step
from mfm.numerics import convolution, precision
from mfm.training.job import TrainingJob
from mfm.training.loop import seed_step

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step computes."""

    loss: float  # of the saved rank's images
    gradient_norm: float
    bad_outputs: tuple[str, ...]  # modules, in the order they ran, whose output is not finite
    bad_images: tuple[int, ...]  # images, within the step, that the first of them failed on
    bad_gradients: tuple[str, ...]  # parameters whose gradient is not finite


def compute(
    job: TrainingJob, saved: dict[str, Any], *, number_format: str, device: torch.device
) -> Outcome:
    """Compute the loss and gradient of a saved step of the job, without an update."""
    inputs = job.inputs_of(classes=saved["classes"], rows=saved["rows"].numpy())
    task = job.training.build(inputs)
    model = task.model
    model.load_state_dict(saved["model"])
    model.to(device).to(memory_format=torch.channels_last).train()
    convolution.use_products(model)
    batches = [Batch(m["images"], m["labels"], m["positions"]) for m in saved["micro_batches"]]
    step = Step(
        epoch=saved["epoch"],
        number=saved["step"],
        positions=np.arange(len(saved["rows"])),
        micro_batches=tuple(batch.positions.numpy() for batch in batches),
    )
    outputs = _BadOutputs(model)
    seed_step(saved["identity"]["seed"], step, rank=saved["rank"])
    total = 0.0
    for batch in batches:
        outputs.positions = batch.positions
        with precision.autocast(number_format, device):
            loss = task.objective(model, batch.to(device), step)
        (loss * saved["world"]).backward()
        total += loss.item()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return Outcome(
        loss=total,
        gradient_norm=nn.utils.get_total_norm(list(gradients.values())).item(),
        bad_outputs=tuple(outputs.modules),
        bad_images=tuple(outputs.images),
        bad_gradients=tuple(n for n, g in gradients.items() if not g.isfinite().all()),
    )


class _BadOutputs:
    """Which layers of a model give non-finite outputs, in the order they run."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, None] = {}
        self.images: list[int] = []
        self.positions = torch.zeros(0, dtype=torch.int64)
        for name, module in model.named_modules():
            if not list(module.children()):
                module.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            finite = output.detach().isfinite().flatten(1).all(dim=1).cpu()
            if finite.all():
                return
            if not self.modules and len(finite) == len(self.positions):
                self.images = list(dict.fromkeys(self.positions[~finite].tolist()))
            self.modules[name] = None

        return look


def describe(outcome: Outcome, paths: list[str]) -> str:
    """Some lines for people."""
    lines = [f"loss {outcome.loss:.6g}, gradient norm {outcome.gradient_norm:.6g}"]
    if outcome.bad_outputs:
        lines.append(f"  outputs of these layers are not finite: {few(outcome.bad_outputs)}")
        images = [paths[index] for index in outcome.bad_images]
        lines.append(f"  the first of them failed on {len(images)} images: {few(images)}")
    if outcome.bad_gradients:
        lines.append(f"  gradients of these are not finite: {few(outcome.bad_gradients)}")
    return "\n".join(lines)


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
