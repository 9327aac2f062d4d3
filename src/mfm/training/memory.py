"""Memory of a GPU, tried by blank steps before a run's first: what one takes, or what fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mfm.data.loading.order import Plan
from mfm.errors import UserError
from mfm.numerics import precision
from mfm.processes import gpus
from mfm.processes.ranks import Process, gather_objects
from mfm.training.blank import blank, unchanged
from mfm.training.metrics import peak_memory_mb
from mfm.training.settings import Training
from mfm.training.task import Task

# Tensors that an optimizer keeps of each parameter, which it makes in its first step.
_STATES = {"adamw": 2, "lamb": 2, "sgd": 1}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run's steps, as far as their memory goes. No rank asks another while it tries."""

    model: nn.Module
    task: Task
    plan: Plan
    training: Training
    size: int
    channels: int
    number_format: str
    process: Process

    def check(self) -> str:
        """What a step takes of a GPU's memory, in words; nothing where no GPU is.

        Raises UserError on all ranks where one has no room for as many images at once as are asked
        for, with the most that all have room for.
        """
        device = self.process.device
        if device.type != "cuda" or self._asks_ranks:
            return ""
        torch.cuda.reset_peak_memory_stats(device)
        least = min(gather_objects(self.most(), self.process))
        whole = torch.cuda.get_device_properties(device).total_memory / 1e6
        if least < self.plan.held:
            raise UserError(self.refusal(least, whole))
        peak = peak_memory_mb(device)
        torch.cuda.reset_peak_memory_stats(device)
        return f", {peak:.0f} of the GPU's {whole:.0f} MB"

    @property
    def _asks_ranks(self) -> bool:
        """Whether a forward pass would wait for other ranks, which may have found no room."""
        return self.training.sync_batchnorm and self.process.world > 1

    @property
    def _has_statistics(self) -> bool:
        """Whether images are normalised by those beside them, of which there have to be some."""
        return any(isinstance(each, _BatchNorm) for each in self.model.modules())

    def most(self) -> int:
        """The most images at once, up to those asked for, whose step has room here; 0 for none."""
        return next((images for images in self._sizes() if self._goes(images)), 0)

    def _sizes(self) -> Iterator[int]:
        """Images at once that the run could have, the most first, and down to the fewest."""
        held = self.plan.held
        yield held
        fewest = 2 if self.plan.pairs or self._has_statistics else 1
        fewer = {replace(self.plan, micro_batch=most).held for most in range(fewest, held)}
        yield from sorted((each for each in fewer if self._allowed(each)), reverse=True)

    def _allowed(self, images: int) -> bool:
        """Whether the recipe can be computed in parts of so many images."""
        values = self.training.model_dump() | {"micro_batch": images}
        try:
            type(self.training).model_validate(values)
        except ValidationError:
            return False
        return True

    def _goes(self, images: int) -> bool:
        """Whether a step with so many images at once has room; it leaves no trace."""
        try:
            with unchanged(self.model):
                self._step(images)
            return True
        except torch.OutOfMemoryError:
            return False
        finally:
            if self.process.device.type == "cuda":
                torch.cuda.empty_cache()

    def _step(self, images: int) -> None:
        """Two parts of a step, where it has several, beside all that a run keeps."""
        plan, device = self.plan, self.process.device
        share = plan.batch // plan.world
        shape = 2, share * plan.views, self.channels, self.size, self.size  # the next step's, too
        kept = [torch.empty(shape, dtype=torch.uint8, device=device)]
        for _ in range(_STATES[self.training.optimizer.name]):
            kept += [torch.empty_like(each) for each in self.model.parameters()]
        alone = replace(plan, rank=0, world=1)
        batch, step = blank(alone, images, size=self.size, channels=self.channels, device=device)
        for _ in range(2 if images < share or plan.world > 1 else 1):
            with precision.autocast(self.number_format, device):
                loss = self.task.objective(self.model, batch, step)
            loss.backward()  # type: ignore[no-untyped-call]

    def refusal(self, least: int, whole: float) -> str:
        """What to change, where `least` images at once fit a GPU of `whole` MB."""
        text = f"{self.plan.held} images at once don't fit the GPU's {whole:.0f} MB"
        if gpus.runs_per_gpu() > 1:
            text += ", which runs share here (MFM_RUNS_PER_GPU)"
        if least:
            text += f": set micro_batch: {least}, which fits; the rest is accumulated"
            return text + ", and batch norm sees fewer images" * self._has_statistics
        if not self._allowed(2):
            return text + ", and micro_batch can't be lowered for this task: lower batch"
        return text + ", nor do fewer: choose smaller images or another network"
