"""Kill real training runs at random moments and compare what they end with.

A run is started by `mfm launch`, killed with SIGKILL at a random moment (the launcher
alone, one worker alone, or the whole tree), and started again until it ends. Its weights have to be
those of a run that nobody touched, bit for bit, and so have the epoch, loss and rate of each
metrics row. Workers have to be gone soon after their launcher was killed.

    python benchmarks/stress_resume.py --kills 20

Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import safetensors.torch
import torch

from mfm.data.linking import manifest
from mfm.data.sources import generated
from mfm.experiment.jobs import FinetuneJob, PretrainJob
from mfm.settings.section import Section, dumps, parse

TARGETS = ("launcher", "worker", "tree")
WORKERS_END_WITHIN = 10.0  # seconds after their launcher


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained."""

    stage: str
    ranks: int
    precision: str

    def __str__(self) -> str:
        return f"{self.stage}, {self.ranks} rank{'s' * (self.ranks > 1)}, {self.precision}"


@dataclass
class Tally:
    """What happened to a case."""

    kills: Counter[str] = field(default_factory=Counter)
    mid_epoch: int = 0  # resumed within an epoch
    runs: int = 0
    differing: list[str] = field(default_factory=list)


def write_config(case: Case, folder: Path) -> None:
    """A small run of some dozens of steps, with everything that could go wrong on a resume."""
    dataset = {"name": "tiny", "image_size": 32}
    training = {
        "epochs": 4,
        "batch": 8,
        "micro_batch": 4,
        "ranks": case.ranks,
        "precision": case.precision,
        "clip": 1.0,
        "schedule": {"warmup_epochs": 1, "per": "step"},
    }
    common = {"dataset": dataset, "model": {"backbone": "resnet10t"}}
    run: Section
    if case.stage == "pretrain":
        run = parse(
            PretrainJob,
            {"name": "stress", "split": "train", "training": {"task": "mfm", **training}, **common},
            where="stress",
        )
    else:
        augmented = {"mixup": 0.2, "cutmix": 1.0, "randaugment": {}, "images_per_class": 24}
        run = parse(
            FinetuneJob,
            {"arm": "a", "source": "scratch", "seed": 1, "curve": "val", **common}
            | {"training": training | augmented},
            where="stress",
        )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(dumps(run))


def start(case: Case, folder: Path, data: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a run in a session of its own."""
    command = [sys.executable, "-m", "mfm", "launch", "--standalone"]
    command += ["--nproc-per-node", str(case.ranks), "--max-restarts", "100"]
    command += ["-m", "mfm", "train", "--config", str(folder / "config.json")]
    command += ["--manifest", str(data), "--folder", str(folder), "--checkpoint-steps", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(log, "ab") as file:
        return subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def workers_of(launcher: int) -> list[psutil.Process]:
    """The ranks of a run: processes of the stage's module below the launcher."""
    try:
        children = psutil.Process(launcher).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if "RANK" in _environment(child)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def kill(process: subprocess.Popen[bytes], target: str, chance: random.Random) -> str:
    """SIGKILL a part of a run. Returns what was killed; a group of one has no worker apart."""
    workers = workers_of(process.pid)
    if target == "worker" and workers:
        with suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()
        return "worker"
    if target == "launcher":
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=WORKERS_END_WITHIN)
        if alive:
            raise RuntimeError(
                f"{len(alive)} workers alive {WORKERS_END_WITHIN} s after their launcher"
            )
        return "launcher"
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    process.kill()
    process.wait()
    return "tree"


def result(case: Case, folder: Path) -> tuple[dict[str, torch.Tensor], list[tuple[str, ...]]]:
    """Final weights, and the metrics that have to repeat."""
    name = "backbone" if case.stage == "pretrain" else "model"
    with open(folder / "metrics.csv", newline="") as file:
        rows = [(row["epoch"], row["loss"], row["lr"]) for row in csv.DictReader(file)]
    return safetensors.torch.load_file(folder / f"{name}.safetensors"), rows


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a run that is to end well."""
    if process.wait() != 0:
        raise RuntimeError(f"a run failed:\n{log.read_text()[-2000:]}")


def stress(case: Case, *, kills: int, data: Path, folder: Path, chance: random.Random) -> Tally:
    """Kill runs of one case until `kills` are reached, and compare each that ends."""
    log = folder / "log.txt"
    whole = folder / "whole"
    write_config(case, whole)
    started = time.monotonic()
    finish(start(case, whole, data, log), log)
    length = time.monotonic() - started
    expected = result(case, whole)

    tally = Tally()
    while tally.kills.total() < kills:
        run = folder / f"run{tally.runs}"
        run_log = folder / f"log{tally.runs}.txt"
        write_config(case, run)
        process = start(case, run, data, run_log)
        while process.returncode != 0:
            left = kills - tally.kills.total()
            try:
                process.wait(chance.uniform(0.1, 1.2) * length if left > 0 else None)
            except subprocess.TimeoutExpired:
                tally.kills[kill(process, chance.choice(TARGETS), chance)] += 1
            if process.poll() is None:
                continue  # one worker was killed, and torchrun starts all ranks again
            if process.returncode > 0:
                raise RuntimeError(f"a run failed:\n{run_log.read_text()[-2000:]}")
            if process.returncode < 0:
                process = start(case, run, data, run_log)
        tally.runs += 1
        tally.mid_epoch += run_log.read_text().count("resumed in epoch")
        tally.differing += differences(expected, result(case, run), run.name)
        print(f"  {case}: run {tally.runs} ended after {tally.kills.total()} kills", flush=True)
    return tally


def differences(
    expected: tuple[dict[str, torch.Tensor], list[tuple[str, ...]]],
    found: tuple[dict[str, torch.Tensor], list[tuple[str, ...]]],
    name: str,
) -> list[str]:
    """What differs between two runs."""
    (weights, rows), (other_weights, other_rows) = expected, found
    differing = [
        f"{name}: {key}"
        for key in weights.keys() | other_weights.keys()
        if key not in weights
        or key not in other_weights
        or not torch.equal(weights[key], other_weights[key])
    ]
    return differing + ([f"{name}: metrics"] if rows != other_rows else [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in all (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--stages", nargs="+", default=["pretrain", "finetune"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 1])
    options = parser.parse_args(arguments)
    cases = [
        Case(stage=stage, ranks=ranks, precision=precision)
        for stage in options.stages
        for ranks in options.ranks
        for precision in options.precisions
    ]
    chance = random.Random(options.seed)
    tallies: dict[Case, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="mfm-stress-") as temporary:
        data = Path(temporary) / "data"
        generated.export(data)
        manifest.write(data)
        for index, case in enumerate(cases):
            share = options.kills // len(cases) + (index < options.kills % len(cases))
            if share:
                tallies[case] = stress(
                    case,
                    kills=share,
                    data=data / "manifest.parquet",
                    folder=Path(temporary) / str(index),
                    chance=chance,
                )
    print("\n| run | kills of launcher / worker / tree | resumed mid-epoch | runs | equal bits |")
    print("|---|---|---|---|---|")
    for case, tally in tallies.items():
        killed = " / ".join(str(tally.kills[target]) for target in TARGETS)
        equal = "no: " + ", ".join(tally.differing[:3]) if tally.differing else "yes"
        print(f"| {case} | {killed} | {tally.mid_epoch} | {tally.runs} | {equal} |")
    return int(any(tally.differing for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
