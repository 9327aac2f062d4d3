"""Map a function over many small items in all processors, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")
_CHUNK = 256


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, title: str
) -> list[Result]:
    """[function(item) for item in items], in order; function and items must be picklable.

    Processes and not threads: opening a small image is mostly interpreter time.
    """
    workers = min(len(os.sched_getaffinity(0)), max(1, len(items) // _CHUNK))
    with tqdm(total=len(items), desc=title, mininterval=2) as bar:
        results = []
        if workers == 1:
            for item in items:
                results.append(function(item))
                bar.update()
            return results
        with ProcessPoolExecutor(workers) as pool:
            for result in pool.map(function, items, chunksize=_CHUNK):
                results.append(result)
                bar.update()
        return results
