"""Locks that end with their process: of a run folder, and of the workflow's folder."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mfm.errors import UserError

_HELD: list[TextIO] = []  # the files of locks that this process keeps


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


def remove_left_locks(snakemake: Path, *, cluster: bool = False) -> list[Path]:
    """Remove the locks that a killed Snakemake left in its folder, `.snakemake`; which they were.

    Snakemake's own locks say nothing of their holder. So each holds one of the kernel's here too,
    beside others, for as long as it lives: who gets it alone is the only one, and what is left is
    of the dead. Not where one of them ran on another host (not every shared disk passes on the
    kernel's locks), or had its jobs on a `cluster`, where they live on.
    """
    snakemake.mkdir(exist_ok=True)
    file = open(snakemake / "mfm-holders", "a+")  # noqa: SIM115  # until this process ends
    here, left = socket.gethostname(), list[Path]()
    if _try_lock(file.fileno()):
        file.seek(0)
        if set(file.read().splitlines()) == {here}:
            left = list((snakemake / "locks").glob("*.lock"))
            for lock in left:
                lock.unlink()
        file.truncate(0)
    fcntl.flock(file, fcntl.LOCK_SH)
    file.write(f"{here} and a cluster\n" if cluster else f"{here}\n")
    file.flush()
    _HELD.append(file)
    return left


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
