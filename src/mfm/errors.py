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


def one_line(error: BaseException) -> str:
    """The message of `error` on a single line."""
    return " ".join(str(error).split())


def exits_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Make `main` print one line and exit with 2 on a UserError, without a traceback."""

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

    return wrapped
