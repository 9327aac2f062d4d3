"""Lifetime of processes: stop signals, and no process without its launcher."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Whether somebody asked this process to stop at the end of its step."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def catch_signals(self) -> None:
        """From now on, STOP_SIGNALS are a request and end nothing by themselves.

        SIGTERM is what schedulers, `kill` and torchrun send; SIGUSR1 what SLURM can be told to
        send ahead of a time limit; SIGINT is Ctrl-C. A second Ctrl-C ends the process at once.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if number == self.received == signal.SIGINT:
            os._exit(128 + number)
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C its starter tells
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
