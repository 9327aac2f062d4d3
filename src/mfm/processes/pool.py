"""Map a function over many small items in all processors, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

from mfm.processes import shared_memory
from mfm.processes.lifetime import end_with_starter

Item = TypeVar("Item")
Result = TypeVar("Result")
_CHUNK = 256
_CHUNKS_AHEAD = 4  # per worker: enough to keep it busy while results are written


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, title: str, chunk: int = _CHUNK
) -> list[Result]:
    """[function(item) for item in items], in order; function and items must be picklable."""
    return list(stream_in_processes(function, items, count=len(items), title=title, chunk=chunk))


def stream_in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    count: int,
    title: str,
    chunk: int = _CHUNK,
) -> Iterator[Result]:
    """The results of about `count` items, in order, with few items and results in memory at once.

    Processes and not threads: opening a small image is mostly interpreter time. They take `chunk`
    items at once, and end when this process does.
    """
    workers = min(len(os.sched_getaffinity(0)), max(1, count // chunk))
    if workers > 1 and not shared_memory.works():
        print("mfm: without /dev/shm in one process alone", file=sys.stderr)
        workers = 1
    with tqdm(total=count, desc=title, mininterval=2) as bar:
        if workers == 1:
            for item in items:
                yield function(item)
                bar.update()
            return
        rest, waiting = iter(items), deque[Future[list[Result]]]()
        with ProcessPoolExecutor(workers, initializer=end_with_starter) as pool:
            try:
                while True:
                    while len(waiting) <= _CHUNKS_AHEAD * workers and (
                        part := list(islice(rest, chunk))
                    ):
                        waiting.append(pool.submit(partial(_each, function), part))
                    if not waiting:
                        return
                    results = waiting.popleft().result()
                    yield from results
                    bar.update(len(results))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]
