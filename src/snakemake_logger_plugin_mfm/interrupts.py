"""Ctrl-C of a call: a line, where Snakemake and Python print tracebacks."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType

_LINE = "mfm: error: stopped by Ctrl-C; start again to continue"


def tell_interrupts() -> None:
    """From now on, the first Ctrl-C lets jobs end with a checkpoint, and a second ends at once.

    The lock that is left then is removed by the next call.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # in the background, or somebody else's
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(_LINE, file=sys.stderr)
        else:
            before(kind, error, at)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, end)
        raise KeyboardInterrupt

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{_LINE}\n".encode())
        os._exit(128 + number)

    sys.excepthook = tell
    signal.signal(signal.SIGINT, interrupt)
