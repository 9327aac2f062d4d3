"""Errors a user can mend, and how a program ends on one."""

from __future__ import annotations

import functools
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what to change."""


USER_ERROR_EXIT = 2
# sysexits.h's EX_TEMPFAIL, "try again": a scheduler is to put the job back into its queue.
STOPPED_EXIT = 75


class StoppedError(Exception):
    """A run ended on a signal, after a checkpoint. Starting it again continues it."""


def one_line(error: BaseException) -> str:
    """The message of `error` on a single line."""
    return " ".join(str(error).split())


def exits_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Make `main` print one line, not a traceback, and exit: 2 on UserError, 75 on StoppedError."""

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> None:
        rank = os.environ.get("RANK", "0")
        try:
            main(*args, **kwargs)
        except StoppedError as stopped:
            if rank == "0":
                print(f"mfm: {stopped}", file=sys.stderr, flush=True)
            _exit(STOPPED_EXIT)
        except UserError as error:
            if rank != "0":
                # Ranks mostly fail alike and together: leave the line to rank 0, after whose
                # exit torchrun ends the others. An error of this rank alone is still printed.
                time.sleep(5)
            print(f"mfm: error: {one_line(error)}", file=sys.stderr, flush=True)
            _exit(USER_ERROR_EXIT)
        except Exception:
            # As Python itself would; but it would then take the connections down, see _exit.
            traceback.print_exc()
            _exit(1)

    return wrapped


def _exit(code: int) -> NoReturn:
    """End this process; among several ranks at once.

    Taking down the connections to a rank that is gone or stuck can take forever.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
