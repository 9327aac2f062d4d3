"""`python -m mfm.replay FILE`: compute a bad step again, and find where it went wrong.

A run that meets a loss or gradient that is not finite saves the step: the weights before it, the
images, and the configuration. This prints what was recorded and what is computed now, names the
images and the layers with non-finite numbers, and computes the step in fp32 beside it.

    python -m mfm.replay results/pretrain/mfm/bad/epoch00003-step00000120-rank0.pt
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mfm import bad_step, checkpoint, config, convolution, precision, pretrain
from mfm.data.loader import Batch
from mfm.data.plan import Step
from mfm.engine import Objective, seed_step
from mfm.errors import UserError, exits_on_user_error
from mfm.finetune import create_classifier
from mfm.supervision import SupervisedObjective

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step computes."""

    loss: float  # of the saved rank's images
    gradient_norm: float
    bad_outputs: tuple[str, ...]  # modules, in the order they ran, whose output is not finite
    bad_images: tuple[int, ...]  # images, within the step, that the first of them failed on
    bad_gradients: tuple[str, ...]  # parameters whose gradient is not finite


def create_model_and_objective(saved: dict[str, Any]) -> tuple[nn.Module, Objective]:
    """The saved step's model with its weights, and its objective."""
    values, classes = saved["identity"]["config"], saved["classes"]
    model: nn.Module
    objective: Objective
    if values["stage"] == "pretrain":
        run = config.parse(config.PretrainRun, values, where="the saved step")
        model, objective = pretrain.create_model_and_objective(
            run, classes=classes, rows=saved["rows"].numpy()
        )
    else:
        finetuning = config.parse(config.FinetuneRun, values, where="the saved step")
        model = create_classifier(finetuning, classes=classes)
        objective = SupervisedObjective(
            finetuning.training,
            classes=classes,
            seed=finetuning.seed,
            rows=saved["rows"].numpy(),
        )
    model.load_state_dict(saved["model"])
    return model, objective


def compute(saved: dict[str, Any], *, number_format: str, device: torch.device) -> Outcome:
    """Compute the saved step's loss and gradient, without an update."""
    model, objective = create_model_and_objective(saved)
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
            loss = objective(model, batch.to(device), step)
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
                self.images = self.positions[~finite].tolist()
            self.modules[name] = None

        return look


def describe(outcome: Outcome, paths: list[str]) -> str:
    """Some lines for people."""
    lines = [f"loss {outcome.loss:.6g}, gradient norm {outcome.gradient_norm:.6g}"]
    if outcome.bad_outputs:
        lines.append(f"  outputs of these layers are not finite: {_few(outcome.bad_outputs)}")
        images = [paths[index] for index in outcome.bad_images]
        lines.append(f"  the first of them failed on {len(images)} images: {_few(images)}")
    if outcome.bad_gradients:
        lines.append(f"  gradients of these are not finite: {_few(outcome.bad_gradients)}")
    return "\n".join(lines)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="RUN/bad/epoch...-step...-rank....pt")
    file: Path = parser.parse_args().file
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    saved = checkpoint.load_pickle(file)
    if not isinstance(saved, dict) or "micro_batches" not in saved:
        raise UserError(
            f"{file} is no saved step: give a file of a run's '{bad_step.FOLDER}' folder"
        )
    print(
        f"{saved['identity']['config']['stage']}, epoch {saved['epoch'] + 1}, step "
        f"{saved['step'] + 1}, rank {saved['rank']} of {saved['world']}, in "
        f"{saved['precision']}: {saved['what']}"
    )
    weights = [
        name
        for name, tensor in saved["model"].items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if weights:
        print(f"  weights that were not finite before the step: {_few(weights)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for number_format in dict.fromkeys([saved["precision"], "fp32"]):
        outcome = compute(saved, number_format=number_format, device=device)
        print(f"again in {number_format}: {describe(outcome, saved['paths'])}")


if __name__ == "__main__":
    main()
