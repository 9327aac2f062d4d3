"""Images per second of a training step: this package's own, against others, in one run.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --cases resnet50:224:16 --tasks mfm --rounds 5

On a CPU 'reference' is benchmarks/reference.py, and 'plain allocator' leaves out the allocator
settings of `mfm launch`. On a GPU 'published' is the training loop of a checkout of
github.com/CoinCheung/MFM (--published FOLDER), which knows ResNet-50. Ours runs in each of
--formats: 'bf16', 'bf16+free' (deterministic: false), 'bf16+compiled' (torch.compile),
'bf16+graphs' (the same with CUDA graphs, its mode reduce-overhead). 'ours' is the step of
mfm.training.loop.Trainer. All sides see random images; loading is not part of it. 'first s' is the
wall time of the first steps, which aren't counted: compilation is in there.

FLOP/s count the model's convolutions and products, forward and backward
(torch.utils.flop_counter), and are given as a share of what a large product of two matrices reaches
in the same process and the same rounds, in the format of the step. The share of masking and loss is
measured by running them alone, forward and backward, in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from case import ALONE, DEVICE, Case, settings
from reference import PlainStep
from sides import (
    Answer,
    Side,
    add_clock,
    against,
    machine,
    matrix_rate,
    peak_mb,
    seconds,
    serve,
    table,
    take_turns,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mfm.data.loading.batches import to_float
from mfm.models.settings import Model
from mfm.numerics import precision
from mfm.processes.ranks import Process

CLASSES = {True: 1000, False: 100}  # on a GPU, and on a CPU
GPU = DEVICE.type == "cuda"
# What the published loops have: clipping of the pretraining; mixing, smoothing and the loss.
RECIPES: dict[str, dict[str, Any]] = {
    "mfm": {"clip": 3.0},
    "finetune": {"loss": "bce", "smoothing": 0.1, "mixup": 0.1, "cutmix": 1.0},
}


def our_case(wanted: Answer, number_format: str, process: Process = ALONE) -> Case:
    """The case of a request; ViTs pretrain by the recipe 'paper', as the paper's do."""
    task, batch = wanted["task"], wanted["batch"]
    recipe = RECIPES.get(task, {}) if GPU else {}
    if task == "mfm" and "vit" in wanted["backbone"]:
        recipe = {**recipe, "recipe": "paper"}
    number_format, *more = number_format.split("+")
    training = settings(
        task,
        batch=batch,
        micro_batch=batch,
        ranks=process.world,
        precision=number_format,
        deterministic="free" not in more,
        **recipe,
    )
    classes = CLASSES[GPU] if task == "finetune" else 0
    model = Model(backbone=wanted["backbone"])
    case = Case(training, model, size=wanted["size"], classes=classes, process=process)
    modes = {"compiled": "default", "graphs": "reduce-overhead"}
    for mode in (modes[each] for each in more if each in modes):
        compiled = torch.compile(case.trainer.parallel, mode=mode)
        # A compiled network is called as one is, and is of no type of torch's.
        case.trainer.parallel = compiled  # type: ignore[assignment]
    return case


def objective_seconds(
    masking: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    images: Tensor,
    keep_low: Tensor,
    channels: int,
    dtype: torch.dtype,
    clock: str,
) -> float:
    """Masking, and loss with its gradient, without the model between them."""
    shape = (len(images), channels, *images.shape[2:])
    prediction = torch.randn(shape, device=images.device).to(dtype).requires_grad_()

    def run() -> None:
        masking(images, keep_low)
        loss(prediction, images, keep_low).backward()

    run()
    return min(seconds(run, clock) for _ in range(3))


def side(wanted: Answer) -> None:
    """A side's process: see the module's docstring."""
    torch.set_num_threads(wanted["threads"])
    case = our_case(wanted["case"], wanted["precision"])
    pretrain = wanted["case"]["task"] == "mfm"
    masking: Any = case.task.objective._task if pretrain else None
    keep_low = torch.arange(wanted["case"]["batch"]) % 2 == 0
    first = case.batches[0][0]
    images = to_float(first.images.to(DEVICE))
    number_format = case.trainer.number_format
    if wanted["name"] == "reference":
        number_format = "fp32"
        reference = PlainStep(case.task.model, radius=masking.radius if pretrain else None)
        masking = reference.masking
        images = images.contiguous()

        def step() -> object:
            return reference(images, first.labels, keep_low)
    else:
        step = case.step
    dtype, clock, count = precision.DTYPES[number_format], wanted["clock"], wanted["steps"]

    def warm_up() -> Answer:
        return {"seconds": seconds(lambda: [step() for _ in range(8 if GPU else 2)], "wall")}

    def measure() -> Answer:
        # A GPU is given one step after the other, as in a run; a CPU's fastest counts.
        repeats, block = (1, count) if GPU else (count, 1)
        took = min(seconds(lambda: [step() for _ in range(block)], clock) for _ in range(repeats))
        peak = torch.cuda.max_memory_allocated() / 1e6 if GPU else peak_mb()
        share = 0.0
        if pretrain:
            channels = getattr(masking, "out_channels", 1)
            share = objective_seconds(
                masking.corrupt, masking.loss, images, keep_low, channels, dtype, clock
            )
        rate = matrix_rate(dtype, clock, device=DEVICE)
        if GPU:
            torch.cuda.empty_cache()  # the others need the memory, too
        return {
            "seconds": took / block,
            "objective": share,
            "rate": rate,
            "peak": peak,
            "format": number_format,
            "images/s": wanted["case"]["batch"] * block / took,
        }

    def flops() -> Answer:
        inputs = images[:8]
        with FlopCounterMode(display=False) as counter:
            case.task.model(inputs).sum().backward()
        case.task.model.zero_grad(set_to_none=True)
        return {"flops": counter.get_total_flops() * len(images) / len(inputs)}

    serve({"warm up": warm_up, "measure": measure, "flops": flops})


def sides_of(case: Answer, options: argparse.Namespace) -> list[Side]:
    """The sides of one case, measured."""
    shared = {
        "case": case,
        "threads": options.threads,
        "steps": options.steps,
        "clock": options.clock,
    }
    if not GPU:
        shared["precision"], *more = options.formats
        others = {f"ours, {each}": {"precision": each} for each in more}
        return against("reference", __file__, shared, rounds=options.rounds, others=others)
    sides = [
        Side(f"ours, {each}", __file__, {**shared, "precision": each}) for each in options.formats
    ]
    if options.published and case["backbone"] == "resnet50":
        given = {**case, "steps": options.steps, "published": str(options.published.resolve())}
        sides.insert(0, Side("published", str(Path(__file__).with_name("published.py")), given))
    take_turns(sides, rounds=options.rounds)
    return sides


def compare(case: Answer, options: argparse.Namespace) -> list[Answer]:
    """What was measured of each side of one case, a row of the table each."""
    sides = sides_of(case, options)
    ours = next(one for one in sides if one.name != "published")
    ours.ask("flops")  # of the plain model; on a CPU, ours leaves out what meets padding only
    flops = ours.answer()["flops"]
    rows = []
    for one in sides:
        took = one.median("seconds")
        row = {
            "step": f"{case['task']} {case['backbone']} {case['size']} px x {case['batch']}",
            "side": one.name,
            "format": one.answers[0].get("format", "fp16"),
            "images/s": one.median("images/s"),
            "ratio": sides[0].median("seconds") / took,
            "first s": one.warm_up.get("seconds", 0.0),
            "peak MB": one.median("peak"),
            "TFLOP/s": flops / took / 1e12,
        }
        if "rate" in one.answers[0]:
            row["matmul TFLOP/s"] = one.median("rate") / 1e12
            row["share"] = flops / took / one.median("rate")
        if case["task"] == "mfm" and "objective" in one.answers[0]:
            row["mask+loss"] = one.median("objective") / took
        rows.append(row)
        one.close()
    return rows


FORMATS = {
    "images/s": "{:.1f}",
    "ratio": "{:.2f}",
    "first s": "{:.1f}",
    "mask+loss": "{:.1%}",
    "peak MB": "{:.0f}",
    "TFLOP/s": "{:.4g}",
    "matmul TFLOP/s": "{:.4g}",
    "share": "{:.0%}",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["resnet50:224:256"] if GPU else ["resnet18:32:128", "resnet50:224:16"],
        help="timm model:pixels:batch (default: %(default)s)",
    )
    parser.add_argument("--tasks", nargs="+", default=["mfm", "finetune"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--steps",
        type=int,
        default=20 if GPU else 2,
        help="steps a round; on a CPU the fastest counts (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--formats",
        nargs="+",
        default=["bf16", "bf16+free", "fp16", "fp16+free"] if GPU else ["auto"],
        help="ours: auto, bf16, fp16 or fp32, each with '+...' (default: %(default)s)",
    )
    parser.add_argument("--published", type=Path, help="checkout of github.com/CoinCheung/MFM")
    parser.add_argument("--json", type=Path, help="file for what was measured")
    add_clock(parser)
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side)
        return
    print(machine(options.threads), flush=True)
    rows: list[Answer] = []
    for name in options.cases:
        backbone, size, batch = name.split(":")
        for task in options.tasks:
            case = {"backbone": backbone, "size": int(size), "batch": int(batch), "task": task}
            rows += compare(case, options)
            if options.json:
                told = {"machine": machine(options.threads), "rows": rows}
                options.json.write_text(json.dumps(told, indent=1))
            print(f"  done: {task} {name}", flush=True)
    header = ["step", "side", "format", *FORMATS]
    cells = [
        [FORMATS.get(key, "{}").format(row[key]) if key in row else "" for key in header]
        for row in rows
    ]
    print(table(header, cells))


if __name__ == "__main__":
    main()
