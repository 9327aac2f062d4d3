"""Time and memory of linking a dataset of ImageNet's size.

    python benchmarks/manifest.py --images 1281167 --classes 1000

The tree is made of hard links to a few hundred JPEGs of about 110 KB, cut from the photographs that
scikit-learn ships, with 50 validation images a class besides. So the files' content comes from
memory: what is measured is the processors' work, and a disk slower than that is the limit instead.
Needs inodes for the folders only; the tree is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from mfm.data.settings import Dataset
from mfm.settings.section import dumps

_LINKS = 60_000  # of one file; ext4 allows 65,000
_VAL_PER_CLASS = 50


def write_photographs(folder: Path, count: int) -> list[Path]:
    """JPEGs of 500 pixels in length and ImageNet's file size, all different."""
    draw = np.random.default_rng(0)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        source = sources[number % len(sources)]
        left, top = (int(draw.integers(0, side)) for side in (100, 40))
        image = source.crop((left, top, left + 500, top + 375))
        paths.append(folder / f"{number}.jpg")
        image.save(paths[-1], quality=int(draw.integers(94, 99)))
    return paths


def make_tree(root: Path, originals: list[Path], *, images: int, classes: int) -> None:
    """root/{train,val}/<class>/<number>.JPEG, hard links to the originals in turn.

    The first one is for val alone, which would be refused if all of it were in train too.
    """
    made = 0
    with tqdm(total=images + classes * _VAL_PER_CLASS, desc="link files", mininterval=5) as bar:
        for split, count in (("train", images), ("val", classes * _VAL_PER_CLASS)):
            for label, numbers in enumerate(np.array_split(np.arange(count), classes)):
                folder = root / split / f"n{label:08d}"
                folder.mkdir(parents=True)
                linked = originals[1:] if split == "train" else originals[:2]
                for number in numbers.tolist():
                    os.link(
                        linked[made % len(linked)],
                        folder / f"n{label:08d}_{number}.JPEG",
                    )
                    made += 1
                bar.update(len(numbers))


class Memory:
    """Largest memory of a process and its children together, in MB, looked at twice a second.

    Proportional set size: what processes share counts once.
    """

    def __init__(self, process: psutil.Process) -> None:
        self.peak = 0.0
        self._process = process
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self._process.is_running():
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                now = sum(process.memory_full_info().pss for process in tree) / 1e6
                self.peak = max(self.peak, now)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
            time.sleep(0.5)


def link(root: Path, folder: Path) -> tuple[float, float, str]:
    """Seconds and MB of one run of the link stage, and its last line."""
    settings = folder.parent / "config.json"
    settings.write_text(dumps(Dataset(name="own", source=str(root))))
    started = time.perf_counter()
    command = [sys.executable, "-m", "mfm", "link", "--config", str(settings)]
    process = subprocess.Popen(
        [*command, "--folder", str(folder)], stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    )
    memory = Memory(psutil.Process(process.pid))
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"linking failed: {output}")
    return time.perf_counter() - started, memory.peak, output.strip()


def report(images: int, classes: int, distinct: int, below: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=below) as name:
        root, folder = Path(name) / "images", Path(name) / "data"
        everything = images + classes * _VAL_PER_CLASS
        originals = write_photographs(
            Path(name) / "originals", max(distinct, everything // _LINKS + 2)
        )
        size = sum(path.stat().st_size for path in originals) / len(originals)
        make_tree(root, originals, images=images, classes=classes)
        print(
            f"{everything:,} files of {size / 1e3:.0f} KB in {classes:,} classes, "
            f"{len(os.sched_getaffinity(0))} processors"
        )
        for title in ("first run", "second run, nothing changed"):
            seconds, megabytes, told = link(root, folder)
            print(
                f"{title}: {seconds:.0f} s, {everything / seconds:,.0f} files/s, "
                f"peak {megabytes:.0f} MB of all processes; load {os.getloadavg()[0]:.1f}; {told}"
            )
        started = time.perf_counter()
        from mfm.data.linking import manifest

        digest = manifest.digests(folder / "manifest.parquet")
        hashed = time.perf_counter()
        loaded = len(manifest.load(folder / "manifest.parquet", "train"))
        print(
            f"digest {digest}: {hashed - started:.2f} s; load {loaded:,} images: "
            f"{time.perf_counter() - hashed:.2f} s; manifest "
            f"{(folder / 'manifest.parquet').stat().st_size / 1e6:.0f} MB"
        )
        assert json.loads((folder / "summary.json").read_text())["images"] == everything


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_281_167, help="training images")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--distinct", type=int, default=300, help="files that are linked to")
    parser.add_argument("--below", type=Path, help="folder for the temporary tree")
    options = parser.parse_args()
    report(options.images, options.classes, options.distinct, options.below)
