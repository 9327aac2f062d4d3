"""Calls of Snakemake in the test's own process: a tenth of a new one's time. Jobs have theirs."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from mfm.processes import locks


def snakemake(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """How the same words end in a process of their own, and what they say; not what its jobs do."""
    from snakemake.cli import main  # a second, which other tests do without

    said, errors, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGINT)
    command = ["snakemake", *map(str, words)]
    held = len(locks._HELD)
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", command),  # which workflow and plugin read
        mock.patch.object(sys, "excepthook"),
        mock.patch.object(sys, "path", [*sys.path]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main(command[1:])
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        finally:
            signal.signal(signal.SIGINT, before)
            for file in locks._HELD[held:]:  # as at a process's end
                file.close()
            del locks._HELD[held:]
    return subprocess.CompletedProcess(command, code, said.getvalue(), errors.getvalue())
