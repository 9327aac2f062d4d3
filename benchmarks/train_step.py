"""Images per second of a training step: this package against a plain reference step.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --cases resnet50:224:16 --tasks pretrain --rounds 5

'ours' runs the package's own model, objective, optimizer and number format in the order of
mfm.training.loop, with the allocator settings of `mfm launch`; 'ours, plain allocator' without
those; 'reference' is benchmarks/reference.py. All start from the same weights and see the same
images. Loading images is not part of it.

FLOP/s count the model's convolutions and products, forward and backward
(torch.utils.flop_counter), and are given as a share of what a product of two 2048 x 2048 matrices
reaches in the same process and the same rounds, in the format of the step. The share of masking
and loss is measured by running them alone, forward and backward, in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable

import numpy as np
import torch
from reference import PlainStep
from sides import (
    Answer,
    add_clock,
    against,
    machine,
    matrix_rate,
    peak_mb,
    seconds,
    serve,
    table,
)
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mfm.data.batches import Batch, to_float
from mfm.data.order import Plan, Step
from mfm.errors import UserError
from mfm.models.backbones import create_backbone
from mfm.models.reconstruction import ReconstructionModel
from mfm.models.settings import Model
from mfm.numerics import convolution, precision
from mfm.objectives.mfm.objective import MfmObjective
from mfm.objectives.mfm.settings import MfmPretraining, default_radius
from mfm.objectives.mfm.task import MaskedFrequencyModeling
from mfm.objectives.supervised.loss import SupervisedObjective
from mfm.objectives.supervised.settings import Finetuning
from mfm.training import optimizers
from mfm.training.nonfinite import StepCheck
from mfm.training.settings import Training

CPU = torch.device("cpu")
CLASSES = 100


class Case:
    """A model, a task and its random batches; the same for every side."""

    def __init__(self, *, backbone: str, size: int, batch: int, task: str) -> None:
        torch.manual_seed(0)
        self.size = size
        self.pretrain = task == "pretrain"
        model = create_backbone(Model(backbone=backbone), classes=0 if self.pretrain else CLASSES)
        self.masking = MaskedFrequencyModeling(radius=default_radius(size))
        self.model: nn.Module = model
        if self.pretrain:
            self.model = ReconstructionModel(model, out_channels=self.masking.out_channels)
        count = 2 * batch
        self.rows = np.arange(count)
        plan = Plan(
            images=count, batch=batch, micro_batch=batch, seed=0, rank=0, world=1, pairs=False
        )
        self.steps = list(plan.epoch(0))
        pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
        self.batches = [
            Batch(
                pixels.permute(0, 3, 1, 2),  # as the loader gives them: channels last in memory
                torch.from_numpy(step.positions % CLASSES),
                torch.from_numpy(step.positions),
            )
            for step in self.steps
        ]


class OurStep:
    """The step of mfm.training.loop.Trainer, on one process."""

    def __init__(self, case: Case, *, number_format: str) -> None:
        training: Training
        if case.pretrain:
            training = MfmPretraining(task="mfm", precision=number_format)
            self.objective: MfmObjective | SupervisedObjective = MfmObjective(
                case.masking, rows=case.rows, seed=0, size=case.size
            )
        else:
            training = Finetuning(precision=number_format)
            self.objective = SupervisedObjective(training, classes=CLASSES, seed=0)
        self.number_format = precision.resolve(training.precision, CPU)
        self.model = case.model.to(memory_format=torch.channels_last).train()
        convolution.use_products(self.model)
        self.parallel = self.model
        self.optimizer = optimizers.create_optimizer(self.model, training.optimizer)
        self.scaler = precision.grad_scaler(self.number_format, CPU)
        self.clip = training.clip
        self.check = StepCheck(
            optimizer=self.optimizer,
            scaler=self.scaler,
            device=CPU,
            skipped=0,
            max_skipped=0,
            refuse=lambda bad: UserError(bad.what),
        )

    def __call__(self, batch: Batch, step: Step) -> float:
        with precision.autocast(self.number_format, CPU):
            loss = self.objective(self.parallel, batch, step)
        self.scaler.scale(loss).backward()
        norm = self.check.gradient_norm(self.model, self.clip)
        self.check.step(loss.detach(), norm, step, [batch])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def objective_seconds(
    masking: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    images: Tensor,
    keep_low: Tensor,
    dtype: torch.dtype,
    clock: str,
) -> float:
    """Masking, and loss with its gradient, without the model between them."""
    prediction = torch.randn(len(images), 1, *images.shape[2:]).to(dtype).requires_grad_()

    def run() -> None:
        masking(images, keep_low)
        loss(prediction, images, keep_low).backward()

    run()
    return min(seconds(run, clock) for _ in range(3))


def side(settings: Answer) -> None:
    """A side's process: see the module's docstring."""
    torch.set_num_threads(settings["threads"])
    case = Case(**settings["case"])
    batch_size, clock = settings["case"]["batch"], settings["clock"]
    keep_low = [
        MfmObjective(case.masking, rows=case.rows, seed=0, size=case.size).keep_low(
            step.positions, epoch=0
        )
        for step in case.steps
    ]
    number = 0

    def next_step() -> float:
        nonlocal number
        number = (number + 1) % len(case.steps)
        batch = case.batches[number]
        if reference is not None:
            images = to_float(batch.images).contiguous()
            return reference(images, batch.labels, keep_low[number])
        return ours(batch, case.steps[number])

    if settings["name"] == "reference":
        reference = PlainStep(case.model, radius=case.masking.radius if case.pretrain else None)
        number_format = "fp32"
        pieces = reference.masking
    else:
        reference = None
        ours = OurStep(case, number_format=settings["precision"])
        number_format, pieces = ours.number_format, case.masking
    dtype = precision.DTYPES[number_format]

    def warm_up() -> Answer:
        losses = [next_step() for _ in case.steps]
        return {"losses": losses}

    def measure() -> Answer:
        took = min(seconds(next_step, clock) for _ in range(settings["steps"]))
        share = 0.0
        if case.pretrain:
            assert pieces is not None
            images = to_float(case.batches[0].images)
            if reference is not None:
                images = images.contiguous()
            share = objective_seconds(
                pieces.corrupt, pieces.loss, images, keep_low[0], dtype, clock
            )
        return {
            "seconds": took,
            "objective": share,
            "rate": matrix_rate(dtype, clock),
            "peak": peak_mb(),
            "format": number_format,
            "images/s": batch_size / took,
        }

    def flops() -> Answer:
        inputs = torch.randn(batch_size, 3, case.size, case.size)
        with FlopCounterMode(display=False) as counter:
            case.model(inputs).sum().backward()
        return {"flops": counter.get_total_flops()}

    serve({"warm up": warm_up, "measure": measure, "flops": flops})


def compare(case: Answer, options: argparse.Namespace) -> list[list[str]]:
    """Rows of the table: the sides of one case."""
    settings = {
        "case": case,
        "threads": options.threads,
        "steps": options.steps,
        "precision": options.precision,
        "clock": options.clock,
    }
    sides = against("reference", __file__, settings, rounds=options.rounds)
    sides[0].ask("flops")  # of the plain model; ours leaves out what meets padding only
    flops = sides[0].answer()["flops"]
    rows = []
    for one in sides:
        rate = flops / one.median("seconds")
        rows.append(
            [
                f"{case['task']} {case['backbone']} {case['size']} px x {case['batch']}",
                one.name,
                one.answers[0]["format"],
                f"{one.median('images/s'):.1f}",
                f"{sides[0].median('seconds') / one.median('seconds'):.2f}",
                f"{100 * one.median('objective') / one.median('seconds'):.1f}%"
                if case["task"] == "pretrain"
                else "",
                f"{one.median('peak'):.0f}",
                f"{rate / 1e9:.0f}",
                f"{one.median('rate') / 1e9:.0f}",
                f"{100 * rate / one.median('rate'):.0f}%",
            ]
        )
        one.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["resnet18:32:128", "resnet50:224:16"],
        help="timm model:pixels:batch (default: %(default)s)",
    )
    parser.add_argument("--tasks", nargs="+", default=["pretrain", "finetune"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=2, help="steps a round, the fastest counts (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="auto", help="ours: auto, bf16 or fp32")
    add_clock(parser)
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side)
        return
    print(machine(options.threads), flush=True)
    rows = []
    for name in options.cases:
        backbone, size, batch = name.split(":")
        for task in options.tasks:
            case = {"backbone": backbone, "size": int(size), "batch": int(batch), "task": task}
            rows += compare(case, options)
            print(f"  done: {task} {name}", flush=True)
    header = ["step", "side", "format", "images/s", "ratio", "mask+loss", "peak MB"]
    print(table([*header, "GFLOP/s", "matmul GFLOP/s", "share"], rows))


if __name__ == "__main__":
    main()
