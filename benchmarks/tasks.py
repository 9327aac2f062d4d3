"""Images per second of every pretraining task's step, with every backbone, side by side.

    python benchmarks/tasks.py
    python benchmarks/tasks.py --cases vit_base_patch16_224:224:128 --tasks supervised mfm mae

The step is that of mfm.training.loop.Trainer, on random images; loading is not part of it. The
tasks of a backbone take turns in one process, with the allocator settings of `mfm launch`. The
second table has each task's time as a multiple of the supervised step with the same backbone and
input; '!' stands where that is above its limit: 1.15, of simclr, which sees two views, 2.15, and of
mae, which sees few patches, 1. '-' stands where a task is not for a backbone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

import torch
from case import DEVICE, Case, every_task, settings
from sides import Answer, Side, add_clock, machine, seconds, serve, table

from mfm.errors import UserError
from mfm.models.settings import Model
from mfm.processes import launch

GPU = DEVICE.type == "cuda"
CLASSES = 1000
BASIS = "supervised"
LIMITS = {"simclr": 2.15, "mae": 1.0}
LIMIT = 1.15
BACKBONES = (
    "resnet18",
    "resnet50",
    "convnext_atto",
    "convnext_tiny",
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "swin_tiny_patch4_window7_224",
)


def side(wanted: Answer) -> None:
    """A backbone's process: it steps through the tasks in turn."""
    torch.set_num_threads(wanted["threads"])
    batch, size, clock = wanted["batch"], wanted["size"], wanted["clock"]
    cases: dict[str, Case] = {}
    for task in wanted["tasks"]:
        training = settings(task, batch=batch, micro_batch=batch, precision=wanted["precision"])
        try:
            cases[task] = Case(
                training, Model(backbone=wanted["backbone"]), size=size, classes=CLASSES
            )
        except UserError:
            continue  # it is not for this backbone

    def warm_up() -> Answer:
        for case in cases.values():
            for _ in range(8 if GPU else 2):
                case.step()
        return {}

    def measure() -> Answer:
        # A GPU is given one step after the other, as in a run; a CPU's fastest counts.
        repeats, block = (1, wanted["steps"]) if GPU else (wanted["steps"], 1)
        return {
            task: min(
                seconds(lambda case=case: [case.step() for _ in range(block)], clock)
                for _ in range(repeats)
            )
            / block
            for task, case in cases.items()
        }

    serve({"warm up": warm_up, "measure": measure})


def compare(case: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step by task, medians over the rounds."""
    backbone, size, batch = case.split(":")
    wanted = {
        "backbone": backbone,
        "size": int(size),
        "batch": int(batch),
        "tasks": options.tasks,
        "threads": options.threads,
        "steps": options.steps,
        "precision": options.precision,
        "clock": options.clock,
    }
    one = Side(case, __file__, wanted, launch.KEEP_MEMORY)
    one.ask("warm up")
    one.answer()
    rounds = [one.measure() for _ in range(options.rounds)]
    one.close()
    return {task: statistics.median(each[task] for each in rounds) for task in rounds[0]}


def ratio(task: str, took: dict[str, float]) -> str:
    """A task's time as a multiple of the supervised step."""
    if task not in took or BASIS not in took:
        return "-"
    found = took[task] / took[BASIS]
    return f"{found:.2f}" + " !" * (found > LIMITS.get(task, LIMIT))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        default=[f"{backbone}:224:{128 if GPU else 16}" for backbone in BACKBONES],
        help="timm model:pixels:batch (default: %(default)s)",
    )
    parser.add_argument("--tasks", nargs="+", default=every_task(), help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--steps",
        type=int,
        default=20 if GPU else 2,
        help="steps of a task a round; on a CPU the fastest counts (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--json", type=Path, help="file for the seconds")
    add_clock(parser)
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side)
        return
    print(machine(options.threads), flush=True)
    found: dict[str, dict[str, float]] = {}
    for case in options.cases:
        found[case] = compare(case, options)
        print(f"  done: {case}", flush=True)
        if options.json:
            told = {"machine": machine(options.threads), "seconds": found}
            options.json.write_text(json.dumps(told, indent=1))
    speeds, ratios = [], []
    for case, took in found.items():
        batch = int(case.split(":")[2])
        speed = [f"{batch / took[task]:.1f}" if task in took else "-" for task in options.tasks]
        speeds.append([case, *speed])
        ratios.append([case, *(ratio(task, took) for task in options.tasks)])
    print(table(["images/s", *options.tasks], speeds))
    print()
    print(table([f"time / {BASIS}", *options.tasks], ratios))


if __name__ == "__main__":
    main()
