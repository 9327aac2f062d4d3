"""Errors a user can mend, and how a program ends on one."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable


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
        try:
            main(*args, **kwargs)
        except UserError as error:
            if os.environ.get("RANK", "0") != "0":
                # Ranks mostly fail alike and together: leave the line to rank 0, after whose
                # exit torchrun ends the others. An error of this rank alone is still printed.
                time.sleep(5)
            print(f"mfm: error: {one_line(error)}", file=sys.stderr, flush=True)
            sys.exit(USER_ERROR_EXIT)
        except StoppedError as stopped:
            if os.environ.get("RANK", "0") == "0":
                print(f"mfm: {stopped}", file=sys.stderr, flush=True)
            sys.exit(STOPPED_EXIT)

    return wrapped
