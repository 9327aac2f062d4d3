"""Masking and loss, forward and backward: this package against complex spectra of everything.

    python benchmarks/objective.py
    python benchmarks/objective.py --size 32 --batch 128 --threads 1

'ours' is mfm.objectives in a process with the allocator settings of `mfm launch`, and once with the
system's own; 'plain' is PlainMasking of benchmarks/reference.py. Both get the same images
(channels_last, as the loader gives them; plain gets them contiguous) and prediction, and their
results are compared with the plain ones in float64.
"""

from __future__ import annotations

import argparse
import json
import os

import torch
from reference import PlainMasking
from sides import (
    Answer,
    add_clock,
    against,
    machine,
    peak_mb,
    resident_mb,
    seconds,
    serve,
    table,
)
from torch import Tensor

from mfm.objectives.mfm.settings import default_radius
from mfm.objectives.mfm.task import MaskedFrequencyModeling


def draw(settings: Answer) -> tuple[Tensor, Tensor, Tensor]:
    """Images, prediction and which images keep low frequencies; the same for every side."""
    generator = torch.Generator().manual_seed(0)
    n, size = settings["batch"], settings["size"]
    images = torch.rand(n, 3, size, size, generator=generator)
    prediction = torch.randn(n, 1, size, size, generator=generator)
    return images, prediction, torch.rand(n, generator=generator) < 0.5


def run(
    task: PlainMasking | MaskedFrequencyModeling,
    images: Tensor,
    prediction: Tensor,
    keep_low: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, loss and its gradient."""
    prediction = prediction.detach().requires_grad_()
    inputs = task.corrupt(images, keep_low)
    loss = task.loss(prediction, images, keep_low)
    return inputs, loss.detach(), torch.autograd.grad(loss, prediction)[0]


def side(settings: Answer) -> None:
    """A side's process: see the module's docstring."""
    torch.set_num_threads(settings["threads"])
    images, prediction, keep_low = draw(settings)
    task: PlainMasking | MaskedFrequencyModeling = PlainMasking(radius=settings["radius"])
    plain = task
    if settings["name"] != "plain":
        task = MaskedFrequencyModeling(radius=settings["radius"])
        images = images.to(memory_format=torch.channels_last)
    before = resident_mb()
    run(task, images[:1], prediction[:1], keep_low[:1])

    def measure() -> Answer:
        took = min(
            seconds(lambda: run(task, images, prediction, keep_low), settings["clock"])
            for _ in range(settings["repeats"])
        )
        return {"seconds": took, "memory": peak_mb() - before}

    def errors() -> Answer:
        found = run(task, images, prediction, keep_low)
        inputs, gradients, loss = [], [], torch.zeros((), dtype=torch.float64)
        for start in range(0, len(images), 8):  # the whole batch would need twice the memory
            some = slice(start, start + 8)
            exact = run(plain, images[some].double(), prediction[some].double(), keep_low[some])
            share = len(images[some]) / len(images)
            inputs.append(exact[0])
            loss += exact[1] * share
            gradients.append(exact[2] * share)
        wanted = (torch.cat(inputs), loss, torch.cat(gradients))
        names = ("corrupt", "loss", "gradient")
        return {
            name: ((a.double() - b).norm() / b.norm()).item()
            for name, a, b in zip(names, found, wanted, strict=True)
        }

    serve({"warm up": measure, "measure": measure, "errors": errors})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images (default: %(default)s)")
    parser.add_argument("--radius", type=float, help="default: 16 at 224 pixels")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="a round; the fastest counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    add_clock(parser)
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side)
        return
    print(machine(options.threads), flush=True)
    settings = {
        "size": options.size,
        "batch": options.batch,
        "radius": options.radius or default_radius(options.size),
        "threads": options.threads,
        "repeats": options.repeats,
        "clock": options.clock,
    }
    sides = against("plain", __file__, settings, rounds=options.rounds)
    rows = []
    for one in sides:
        one.ask("errors")
        errors = one.answer()
        rows.append(
            [
                one.name,
                f"{1e3 * one.median('seconds'):.1f}",
                f"{sides[0].median('seconds') / one.median('seconds'):.2f}",
                f"{one.median('memory'):.0f}",
                *(f"{errors[name]:.1e}" for name in ("corrupt", "loss", "gradient")),
            ]
        )
        one.close()
    print(f"corrupt, loss and gradient of {options.batch} images, {options.size} px")
    header = ["side", "ms", "ratio", "memory MB"]
    print(table([*header, "error: corrupt", "loss", "gradient"], rows))


if __name__ == "__main__":
    main()
