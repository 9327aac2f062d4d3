"""Who may run: one writer for each run folder, and no process without its launcher."""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mfm.errors import UserError

if TYPE_CHECKING:  # a launcher shall start without importing torch
    from mfm.distributed import Process

_PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether somebody asked this process to stop at the end of its step."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def catch_signals(self) -> None:
        """From now on, SIGTERM and SIGUSR1 are a request and end nothing by themselves.

        SIGTERM is what schedulers, `kill` and torchrun send; SIGUSR1 what SLURM can be told to
        send ahead of a time limit.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.received = signal.Signals(number)


def leave_signals_to_parent() -> None:
    """In a helper process: ignore stop signals, except SIGTERM from the parent.

    A scheduler sends them to every process, and the one that trains needs its helpers until it has
    finished its step. Its own SIGTERM is how it ends a helper.
    """
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def wait() -> None:
        while True:
            received = signal.sigwaitinfo(STOP_SIGNALS)
            if received.si_pid == parent and received.si_signo == signal.SIGTERM:
                os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def end_with_launcher() -> None:
    """Let the kernel end this worker when its launcher dies.

    torchrun starts workers in sessions of their own, so they would outlive a killed launcher and
    write beside its successor. Linux only, as is the kernel's death signal.
    """
    if sys.platform != "linux":
        return
    launcher = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher or launcher == 1:
        os._exit(1)


def end_with_starter() -> None:
    """Let the kernel end this worker of multiprocessing when the process that started it dies.

    A worker holds both ends of the pool's pipes, so it would wait for its next task forever.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    starter = multiprocessing.parent_process()
    if starter is not None and not starter.is_alive():
        os._exit(1)


def end_with_parent(*, every_seconds: float = 0.5, grace_seconds: float = 45.0) -> None:
    """Send this process SIGTERM when its parent is gone, where the parent asked for that.

    A run then checkpoints and ends; after `grace_seconds` it is killed. The workflow asks by an
    environment variable: a killed Snakemake must not leave jobs behind. A run that a person starts
    by hand may well outlive the shell it was started from.
    """
    if os.environ.get("MFM_END_WITH_PARENT") != "1":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def only_writer(run: Path, process: Process, *, wait_seconds: float = 60.0) -> Iterator[None]:
    """Hold the run folder's lock, in the process that writes.

    The kernel drops the lock with its process, so there are no stale ones. A second start waits
    a while, for workers that are just ending, and then refuses with the holder named.
    """
    if not process.is_main:
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "a+") as file:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                file.seek(0)
                raise UserError(
                    f"{run} is in use by {file.read().strip() or 'another process'}; wait for it "
                    "or stop it"
                )
            time.sleep(0.5)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
