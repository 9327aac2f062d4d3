"""One process with two threads against two gloo processes with one thread each.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --case resnet50:224:16

The effective batch is the same: each of the two processes takes half of it. 'two, no exchange'
trains two processes that never talk, which is what the exchange of gradients can be measured
against. The step is the package's own, as in train_step.py.
"""

from __future__ import annotations

import argparse
import json
import socket

import torch
import torch.distributed as dist
from case import ALONE
from sides import Answer, Side, machine, peak_mb, seconds, serve, table
from train_step import our_case

from mfm.processes import launch
from mfm.processes.ranks import Process, process_group


def side(settings: Answer) -> None:
    """One process of a side."""
    torch.set_num_threads(settings["threads"])
    with process_group() as process:
        trained = process if settings["exchange"] else ALONE
        case = our_case(settings["case"], settings["precision"], trained)

        def measure() -> Answer:
            together(process)
            took = seconds(lambda: [case.step() for _ in range(settings["steps"])], "wall")
            return {"seconds": took / settings["steps"], "peak": peak_mb()}

        serve({"warm up": measure, "measure": measure})


def together(process: Process) -> None:
    """Start the measurement on both processes at once."""
    if process.world > 1:
        dist.barrier()


def start(name: str, settings: Answer, *, processes: int) -> list[Side]:
    """The processes of one side, in one gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        Side(name, __file__, settings, {**launch.KEEP_MEMORY, **group, "RANK": str(rank)})
        for rank in range(processes)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case", default="resnet18:32:256", help="timm model:pixels:whole batch (%(default)s)"
    )
    parser.add_argument("--task", default="mfm", choices=["mfm", "finetune"])
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="steps a round (%(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, bf16 or fp32")
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side)
        return
    print(machine(2), flush=True)
    backbone, size, batch = options.case.split(":")
    common = {"steps": options.steps, "precision": options.precision}
    case = {"backbone": backbone, "size": int(size), "task": options.task}
    whole, half = ({**case, "batch": int(batch) // share} for share in (1, 2))
    one = {**common, "case": whole, "threads": 2, "exchange": False}
    two = {**common, "case": whole, "threads": 1, "exchange": True}
    apart = {**common, "case": half, "threads": 1, "exchange": False}
    groups = [
        start("one, 2 threads", one, processes=1),
        start("two, 1 thread", two, processes=2),
        start("two, no exchange", apart, processes=2),
    ]
    for number in range(options.rounds + 1):
        for group in groups:
            for rank in group:
                rank.ask("measure")
            answers = [rank.answer() for rank in group]
            if number:  # the first one warms up
                group[0].answers.append(
                    {
                        "seconds": max(answer["seconds"] for answer in answers),
                        "peak": sum(answer["peak"] for answer in answers),
                    }
                )
    rows = []
    for group in groups:
        took = group[0].median("seconds")
        rows.append(
            [
                group[0].name,
                f"{1e3 * took:.1f}",
                f"{int(batch) / took:.1f}",
                f"{groups[0][0].median('seconds') / took:.2f}",
                f"{group[0].median('peak'):.0f}",
            ]
        )
        for rank in group:
            rank.close()
    print(f"{options.task} {backbone}, {size} px, batch {batch} over all processes")
    print(table(["processes", "ms a step", "images/s", "ratio", "peak MB, sum"], rows))


if __name__ == "__main__":
    main()
