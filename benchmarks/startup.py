"""Start and end of short jobs: what a finetuning and an evaluation of seconds wait for.

    python benchmarks/startup.py
    python benchmarks/startup.py --other /path/to/another/checkout/src

Trains resnet10t on 64 generated images for two epochs, as configs/tiny.yaml does, and evaluates it:
processes of their own, as the workflow starts them. 'import torch' is a Python that imports torch
and ends, the least that a job can take. With `--other`, the same jobs by another version of the
package. They take turns, round by round; medians are printed, of processor time and of wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sides import machine, table

from mfm.data.linking import manifest
from mfm.data.sources import generated
from mfm.experiment import resolve
from mfm.experiment.settings import load_yaml
from mfm.settings.section import dumps

ROOT = Path(__file__).parent.parent
TORCH = "import torch"


def prepare(folder: Path) -> None:
    """A dataset and the jobs' configurations."""
    generated.export(folder / "data")
    manifest.write(folder / "data")
    experiment = load_yaml(ROOT / "configs/tiny.yaml")
    (folder / "finetune.json").write_text(dumps(resolve.finetune_job(experiment, "scratch", 0)))
    (folder / "evaluate.json").write_text(dumps(resolve.evaluate_job(experiment)))


def jobs(folder: Path) -> dict[str, list[str]]:
    """The commands by the jobs' names, in their order."""
    images = ["--manifest", f"{folder}/data/manifest.parquet", "--workers", "0"]
    train = "launch --standalone --nproc-per-node 1 --max-restarts 3 -m mfm train --weights scratch"
    train += f" --config {folder}/finetune.json --folder {folder}/run --checkpoint-epochs 30"
    evaluate = f"evaluate --config {folder}/evaluate.json --weights {folder}/run/model.safetensors"
    evaluate += f" --csv {folder}/row.csv --predictions {folder}/predictions.parquet"
    return {
        TORCH: [sys.executable, "-c", TORCH],
        "finetuning": [sys.executable, "-m", "mfm", *train.split(), *images],
        "evaluation": [sys.executable, "-m", "mfm", *evaluate.split(), *images],
    }


def measure(command: list[str], source: Path) -> tuple[float, float]:
    """Processor and wall time of a process, in seconds."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", type=Path, help="src folder of another version")
    options = parser.parse_args()
    print(f"{machine(1)}\n")
    sources = {"ours": ROOT / "src", **({"other": options.other} if options.other else {})}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for _ in range(options.rounds):
            for side, source in sources.items():
                for job, command in jobs(Path(name)).items():
                    found.setdefault((job, side), []).append(measure(command, source.resolve()))
    medians = {
        key: [statistics.median(times) for times in zip(*each, strict=True)]
        for key, each in found.items()
    }
    least = medians[TORCH, "ours"][0]
    header = ["job", "side", "processor s", "wall s", "processor, of import torch"]
    rows = [
        [job, side, f"{processor:.2f}", f"{wall:.2f}", f"{processor / least:.2f}"]
        for (job, side), (processor, wall) in medians.items()
        if (job, side) != (TORCH, "other")
    ]
    print(table(header, sorted(rows, key=lambda row: list(jobs(Path())).index(row[0]))))


if __name__ == "__main__":
    main()
