"""Time and memory of reading frozen features, at growing amounts of labels.

    python benchmarks/probes.py --images 100000 --evaluated 10000

Features are drawn, a centre a class and noise around it, and written as the workflow writes them;
a quarter, half and all of the labels are read from that file, each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mfm.data.linking.manifest import Images
from mfm.evaluation.frozen import features_file
from mfm.evaluation.frozen.probes import logistic, nearest
from mfm.numerics.draws import Ints

Matrix = features_file.Matrix


def images(labels: Ints, classes: int) -> Images:
    """Images of these labels, without any files."""
    count = len(labels)
    return Images(
        root=Path(),
        classes=tuple(f"n{label:08d}" for label in range(classes)),
        paths=pa.array(f"n{label:08d}/{number}.JPEG" for number, label in enumerate(labels)),
        rows=np.arange(count),
        labels=labels,
        widths=np.full(count, 500),
        heights=np.full(count, 375),
    )


def parts(options: argparse.Namespace) -> Iterator[tuple[str, Images, Ints, Matrix]]:
    """Features in batches, as a network gives them."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((options.classes, options.width)).astype(np.float32)
    for split, count in (("train", options.images), ("val", options.evaluated)):
        theirs = images(np.arange(count) % options.classes, options.classes)
        for positions in np.array_split(np.arange(count), -(-count // 256)):
            noise = draw.standard_normal((len(positions), options.width), dtype=np.float32)
            yield split, theirs, positions, centres[theirs.labels[positions]] + 4 * noise


def measured(work: Callable[[], str]) -> tuple[str, float, float]:
    """What a function says, its seconds, and the largest memory of its process in MB."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_timed, (work,))


def _timed(work: Callable[[], str]) -> tuple[str, float, float]:
    started = time.perf_counter()
    said = work()
    seconds = time.perf_counter() - started
    return said, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Extraction:
    """The features file."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self._path, self._options = path, options

    def __call__(self) -> str:
        features_file.write(self._path, parts(self._options), {})
        return f"{self._path.stat().st_size / 1e9:.2f} GB"


class Reading:
    """One method, with the labels of the first images."""

    def __init__(self, path: Path, method: str, count: int) -> None:
        self._path, self._method, self._count = path, method, count

    def __call__(self) -> str:
        evaluated = features_file.take(self._path, "val")
        labelled = features_file.blocks(self._path, "train", np.arange(self._count))
        if self._method == "logistic":
            whole = features_file.join(list(labelled))
            read = logistic(whole.features, whole.labels, evaluated.features, seed=0)
            found = read.predictions
        else:
            found = nearest(labelled, evaluated.features, neighbours=[10, 20])[20]
        return f"{100 * float((found == evaluated.labels).mean()):.2f}% right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000, help="training images")
    parser.add_argument("--evaluated", type=int, default=10_000, help="evaluated images")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--width", type=int, default=2048, help="features an image")
    parser.add_argument(
        "--logistic", type=int, default=0, help="images that logistic regression is fitted to"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.parquet"
        work: dict[tuple[str, int], Callable[[], str]] = {
            ("file", options.images + options.evaluated): Extraction(path, options)
        }
        for count in (options.images // 4, options.images // 2, options.images):
            work["neighbours", count] = Reading(path, "nearest", count)
        if options.logistic:
            work["logistic", options.logistic] = Reading(path, "logistic", options.logistic)
        rows = []
        for (name, count), one in work.items():
            said, seconds, peak = measured(one)
            rows.append({"what": name, "images": count, "s": seconds, "peak MB": peak, "": said})
            print(pd.DataFrame(rows[-1:]).round(1).to_string(index=False), flush=True)
        print(pd.DataFrame(rows).round(1).to_markdown(index=False))


if __name__ == "__main__":
    main()
