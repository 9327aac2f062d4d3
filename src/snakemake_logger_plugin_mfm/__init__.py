"""Logger plugin of Snakemake, which checks the files of --configfile.

Snakemake makes its loggers before it reads these files, and says of a wrong one neither where nor
what; nor of a home folder that it can't write to. profiles/ ask for this plugin. It logs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase

from mfm.errors import UserError, exits_on_user_error
from mfm.files.atomic import check_writable
from mfm.settings.files import check_settings


def files_of(words: Sequence[str]) -> list[Path]:
    """The files of --configfile in the words of a call of Snakemake."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", type=Path, default=[])
    try:
        found: list[Path] = parser.parse_known_args(words)[0].configfile
    except argparse.ArgumentError:
        return []  # Snakemake says it
    return found


def _check() -> None:
    check_home()
    check_settings(files_of(sys.argv[1:]))


def check_home() -> None:
    """Raise UserError where Snakemake has no folder for what it keeps between calls."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    try:
        check_writable(cache)
    except OSError as error:
        raise UserError(
            f"{cache} takes no files ({error.strerror}), and Snakemake keeps some there: set HOME, "
            "or XDG_CACHE_HOME, to a folder of yours"
        ) from None


class LogHandler(LogHandlerBase):
    """The plugin, by the name that Snakemake looks for."""

    def __post_init__(self) -> None:
        """Check, and end Snakemake in one line where a file is wrong."""
        exits_on_user_error(_check)()

    def emit(self, record: LogRecord) -> None:
        """Nothing: Snakemake's own logger shows it."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
