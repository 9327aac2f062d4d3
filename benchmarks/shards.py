"""Tars of many images against folders of files: time and memory to link them, and to read them.

    python benchmarks/shards.py --images 1281167 --classes 1000 --below /tmp

Every image is a file of its own (4 KB), with 50 validation images a class besides: 11 GB for both
sides, and as many inodes as images. The tars are what `mfm shards` writes. Both are removed
afterwards. `--cold`, as root, empties the system's caches before a read of each side.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch
from manifest import Memory
from PIL import Image
from sides import table
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from mfm.data.linking import manifest
from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import TrainBatches
from mfm.data.loading.choice import create_loader
from mfm.data.pictures import contents
from mfm.data.settings import Crop, Dataset
from mfm.settings.section import dumps

_VAL_PER_CLASS = 50
_DISTINCT = 300
Sides = dict[str, Images]


def write_tree(root: Path, *, images: int, classes: int) -> None:
    """root/{train,val}/<class>/<number>.JPEG, a file each, of some hundred different contents."""
    draw = np.random.default_rng(0)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    originals = []
    for number in range(_DISTINCT):
        left, top = (int(draw.integers(0, side)) for side in (480, 320))
        image = sources[number % len(sources)].crop((left, top, left + 112, top + 84))
        originals.append(root.with_name(f"{number}.jpg"))
        image.save(originals[-1], quality=80)
    content = [path.read_bytes() for path in originals]
    print(f"{np.mean([len(each) for each in content]):.0f} bytes a file", flush=True)
    with tqdm(total=images + classes * _VAL_PER_CLASS, desc="write", mininterval=20) as bar:
        for split, count in (("train", images), ("val", classes * _VAL_PER_CLASS)):
            for label, numbers in enumerate(np.array_split(np.arange(count), classes)):
                folder = root / split / f"n{label:08d}"
                folder.mkdir(parents=True)
                # One is for val alone, which would be refused if all of it were in train too.
                of_split = content[1:] if split == "train" else content[:2]
                for number in numbers.tolist():
                    path = f"{folder}/n{label:08d}_{number}.JPEG"
                    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
                    os.write(handle, of_split[number % len(of_split)])
                    os.close(handle)
                bar.update(len(numbers))


def measured(words: list[str]) -> tuple[float, float, float]:
    """Seconds by the wall and of the processors, and MB, of a command of mfm."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mfm", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    memory = Memory(psutil.Process(process.pid))
    _, told = process.communicate()
    if process.returncode:
        sys.exit(f"mfm {' '.join(words)} failed: {told.decode()[-2000:]}")
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, memory.peak


def row(side: str, what: str, count: int, found: tuple[float, float, float]) -> list[str]:
    """One row of the table, also printed at once."""
    wall, used, megabytes = found
    cells = [side, what, f"{wall:.0f}", f"{used:.0f}", f"{count / wall:,.0f}", f"{megabytes:.0f}"]
    print(*cells, f"load {os.getloadavg()[0]:.1f}", flush=True)
    return cells


def link_both(below: Path, sources: dict[str, Path], count: int) -> list[list[str]]:
    """Link each side twice."""
    rows = []
    for turn in ("first run", "nothing changed"):
        for side, source in sources.items():
            settings = below / f"{side}.json"
            settings.write_text(dumps(Dataset(name="own", source=str(source))))
            words = ["link", "--config", str(settings), "--folder", str(below / f"data-{side}")]
            rows.append(row(side, turn, count, measured(words)))
    said = [(below / f"data-{side}/images.train.json").read_text() for side in sources]
    assert said[0] == said[1], said
    print(f"the same images in the same order: {json.loads(said[0])['sha256']}", flush=True)
    return rows


def in_turns(what: str, ways: dict[str, Callable[[], int]], rounds: int) -> list[str]:
    """Images/s of each side, in turns, after one round that isn't counted."""
    rates: dict[str, list[float]] = {side: [] for side in ways}
    for number in range(rounds + 1):
        for side, way in ways.items():
            started = time.perf_counter()
            images = way()
            if number:
                rates[side].append(images / (time.perf_counter() - started))
    medians = [median(values) for values in rates.values()]
    cells = [what, *(f"{value:,.0f}" for value in medians), f"{medians[1] / medians[0]:.2f}"]
    print(*cells, f"load {os.getloadavg()[0]:.1f}", flush=True)
    return cells


def read_some(images: Images, positions: list[int]) -> int:
    """Read images, one after the other, and do nothing with them."""
    return sum(1 for position in positions if contents.read(images.place(position)))


def fed(images: Images, positions: np.ndarray) -> Callable[[], int]:
    """Training's batches of 64 px from two workers, for the whole of a training."""
    batches = TrainBatches(images, crop=Crop(), size=64, seed=0)
    loader = create_loader("torchvision", batches, workers=2, device=torch.device("cpu"))
    parts = np.array_split(positions, max(1, len(positions) // 128))
    return lambda: sum(len(one.labels) for one in loader.read(lambda: [(0, p) for p in parts]))


def read_both(sides: Sides, *, rounds: int, some: int, cold: bool) -> list[list[str]]:
    """Rates of reading in no order."""
    number = len(next(iter(sides.values())))
    positions = np.random.default_rng(1).permutation(number)[: 3 * some]
    if cold:
        for side, images in sides.items():
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
            started = time.perf_counter()
            read_some(images, positions[:some].tolist())
            rate = some / (time.perf_counter() - started)
            print(f"{side}: {rate:,.0f} images/s from the disk", flush=True)
    few = positions[-some:]
    return [
        in_turns(
            "read, one process",
            {side: partial(read_some, images, few.tolist()) for side, images in sides.items()},
            rounds,
        ),
        in_turns(
            "batches, 2 workers", {side: fed(images, few) for side, images in sides.items()}, rounds
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_281_167, help="training images")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--size", default="1G", help="of a tar (default: %(default)s)")
    parser.add_argument("--some", type=int, default=20_000, help="images read a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="also read from the disk, as root")
    parser.add_argument("--below", type=Path, help="folder for the temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.below) as name:
        below = Path(name)
        sources = {"folder": below / "folder", "tars": below / "tars"}
        started = time.perf_counter()
        write_tree(sources["folder"], images=options.images, classes=options.classes)
        count = options.images + options.classes * _VAL_PER_CLASS
        print(f"{count:,} files written in {time.perf_counter() - started:.0f} s", flush=True)
        words = ["shards", *map(str, sources.values()), "--size", options.size]
        rows = [row("tars", "mfm shards", count, measured(words))]
        rows += link_both(below, sources, count)
        sides = {
            side: manifest.load(below / f"data-{side}/manifest.parquet", "train")
            for side in sources
        }
        rates = read_both(sides, rounds=options.rounds, some=options.some, cold=options.cold)
        print(table(["side", "what", "s", "processors' s", "files/s", "peak MB"], rows))
        print(table(["images/s, in no order", *sides, "ratio"], rates))


if __name__ == "__main__":
    main()
