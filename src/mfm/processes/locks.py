"""Lock of a run folder: one writer at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mfm.errors import UserError


@contextmanager
def only_writer(run: Path, *, wait_seconds: float = 60.0) -> Iterator[None]:
    """Hold the folder's lock.

    The kernel drops the lock with its process, so there are no stale ones. A second start waits
    a while, for workers that are just ending, and then refuses with the holder named. (Not by
    filelock: its older versions empty the file at each try, and the holder's name with it.)
    """
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "a+b", buffering=0) as file:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().decode().strip() or "another process"
                raise UserError(f"{run} is in use by {holder}; wait for it or stop it")
            time.sleep(0.5)
        file.truncate(0)
        with suppress(OSError):  # a full disk takes no name, but the lock is held
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
