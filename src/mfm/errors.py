"""Errors a user can mend, and how a program ends on one."""

from __future__ import annotations

import errno
import functools
import os
import pwd
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what to change."""

    faults: tuple[str, ...] = ()  # each of several, where there are more than one


def several(faults: Sequence[str]) -> UserError:
    """One error that tells of several, numbered."""
    if len(faults) == 1:
        return UserError(faults[0])
    listed = "; ".join(f"({number}) {fault}" for number, fault in enumerate(faults, 1))
    error = UserError(f"{len(faults)} things are to be mended: {listed}")
    error.faults = tuple(faults)
    return error


USER_ERROR_EXIT = 2
# sysexits.h's EX_TEMPFAIL, "try again": a scheduler is to put the job back into its queue.
STOPPED_EXIT = 75


class StoppedError(Exception):
    """A run ended on a signal, after a checkpoint. Starting it again continues it."""


def one_line(error: BaseException | str) -> str:
    """The message of `error` on a single line."""
    return " ".join(str(error).split())


_NO_SPACE = "free some space there and start again; what is finished is kept"
_NO_RIGHT = (
    "user {user} may not do that: change the owner or the rights (chown, chmod), or use another "
    "folder"
)
_NO_FILES = "allow more open files (ulimit -n 1024) and start again"
# What the machine refuses, and what to do about it.
_REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "allow larger files (ulimit -f unlimited) and start again",
    errno.EROFS: "that disk can only be read: mount it for writing, or use another folder",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EMFILE: _NO_FILES,
    errno.ENFILE: _NO_FILES,
    errno.ENOMEM: "free some memory and start again",
    errno.EAGAIN: "allow more processes (ulimit -u) and start again",
    errno.EIO: "that disk fails: copy what it holds",
}


def no_fault_of_the_file(error: OSError) -> bool:
    """Whether an error of opening a file says something of this process alone."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def explain(error: BaseException) -> str | None:
    """What a user can do about an error, in one line; None for one that is this program's own."""
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, RuntimeError):
        return _of_gpu(error)
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return None
    where = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES[error.errno].format(user=_user())
    return f"{where}{os.strerror(error.errno)}; {remedy}"


def _of_gpu(error: RuntimeError) -> str | None:
    """What torch, which isn't imported here, says of a GPU that is full or doesn't repeat."""
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "the GPU's memory is full: lower micro_batch (the rest of the batch is then "
            "accumulated), or evaluate.batch in an evaluation, or let fewer runs share it "
            "(MFM_RUNS_PER_GPU)"
        )
    operation, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not found:
        return None
    return (
        f"{one_line(operation)} gives other bits each time on a GPU: set deterministic: false for "
        "this training, or choose another network or task"
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container, mostly
        return str(os.geteuid())


def check_encoding() -> None:
    """Raise UserError where names of files would be read and shown as something else."""
    found = sys.getfilesystemencoding()
    if found != "utf-8":
        raise UserError(
            f"names of files and classes are read as {found} here, not as UTF-8: export "
            "PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8, and start again"
        )


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send what a script of the workflow says to its log, and end it on a user's error in a line.

    A script's own sys.stderr, once it is closed, takes a traceback with it.
    """
    before = sys.stderr
    with open(path, "w", encoding="utf-8", buffering=1) as log:
        sys.stderr = log
        try:
            yield
        except Exception as error:
            told = explain(error)
            with suppress(OSError):  # a full disk takes no line either
                log.write(f"mfm: error: {told}\n" if told else traceback.format_exc())
            sys.exit(USER_ERROR_EXIT if told else 1)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        finally:
            sys.stderr = before


def all_of(checks: Iterable[Callable[[], object]]) -> None:
    """Run all checks; a UserError of some is one of all that they say, each once."""
    said: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except UserError as error:
            said |= dict.fromkeys(error.faults or [str(error)])
    if said:
        raise several(list(said))


def exits_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Make `main` print one line, not a traceback, and exit.

    With 2 on what a user can mend, with 75 on StoppedError.
    """

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> None:
        rank = os.environ.get("RANK", "0")
        try:
            check_encoding()
            main(*args, **kwargs)
        except StoppedError as stopped:
            if rank == "0":
                print(f"mfm: {stopped}", file=sys.stderr, flush=True)
            _exit(STOPPED_EXIT)
        except Exception as error:
            told = explain(error)
            if told is None:
                # As Python itself would; but it would then take the connections down, see _exit.
                traceback.print_exc()
                _exit(1)
            if rank != "0":
                # Ranks mostly fail alike and together: leave the line to rank 0, after whose
                # exit torchrun ends the others. An error of this rank alone is still printed.
                time.sleep(5)
            with suppress(OSError):  # a log on a full disk takes no line either
                print(f"mfm: error: {told}", file=sys.stderr, flush=True)
            _exit(USER_ERROR_EXIT)
        except KeyboardInterrupt:
            if rank == "0":
                print("mfm: stopped by SIGINT", file=sys.stderr, flush=True)
            _exit(128 + signal.SIGINT)

    return wrapped


def _exit(code: int) -> NoReturn:
    """End this process; among several ranks at once.

    Taking down the connections to a rank that is gone or stuck can take forever.
    """
    # Its helpers end with it; torch would report each as a failure, with a traceback.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
