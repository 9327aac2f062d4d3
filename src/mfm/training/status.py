"""Status of a training while it runs: a small file, rewritten as it goes.

`mfm watch` reads it. It lies beside the rolling checkpoints and goes with them at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "rolling"  # of a run: what is there while it goes on
NAME = "status.json"
_EVERY_SECONDS = 2.0
_WINDOW = 16  # writings that the speed is taken over


@dataclass(frozen=True, kw_only=True)
class Report:
    """One state of a run."""

    epoch: int  # from 1
    epochs: int
    step: int  # steps done in this epoch
    steps: int  # in an epoch
    loss: float  # of the last step, as far as the first rank knows it
    lr: float
    images_per_second: float  # over all ranks, of about the last half minute
    seconds_left: float  # of the whole run, at that speed
    time: float  # seconds since 1970
    process: int
    host: str


class Status:
    """Writes the state of a run every few seconds; without a path, nothing."""

    def __init__(self, path: Path | None, *, epochs: int, steps: int, batch: int) -> None:
        self._path = path
        self._epochs, self._steps, self._batch = epochs, steps, batch
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._host = socket.gethostname()

    def due(self, *, epoch: int, step: int) -> bool:
        """Whether it is time to `write`; `epoch` from 0, `step` of it done."""
        if self._path is None:
            return False
        if not self._marks:  # the first step pays for the start of the loader
            self._marks.append((time.monotonic(), epoch * self._steps + step))
        return time.monotonic() - self._marks[-1][0] >= _EVERY_SECONDS

    def write(self, *, epoch: int, step: int, loss: float, rate: float) -> None:
        """Replace the file. A disk that doesn't take it is left to the checkpoints to report."""
        assert self._path is not None
        done, now = epoch * self._steps + step, time.monotonic()
        then, before = self._marks[0]
        speed = (done - before) / (now - then)  # steps a second
        self._marks.append((now, done))
        report = Report(
            epoch=epoch + 1,
            epochs=self._epochs,
            step=step,
            steps=self._steps,
            loss=loss,
            lr=rate,
            images_per_second=speed * self._batch,
            seconds_left=(self._epochs * self._steps - done) / speed,
            time=time.time(),
            process=os.getpid(),
            host=self._host,
        )
        temporary = self._path.with_name(f".{NAME}.tmp")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not synced: it is worth nothing after a power cut.
            temporary.write_text(json.dumps(asdict(report)), encoding="utf-8")
            temporary.replace(self._path)


def read(path: Path) -> Report | None:
    """The last state that a run wrote, or None."""
    try:
        return Report(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
