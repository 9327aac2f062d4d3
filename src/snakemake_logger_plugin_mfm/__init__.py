"""Logger plugin of Snakemake, which checks the files of --configfile.

Snakemake makes its loggers before it reads these files, and says of a wrong one neither where nor
what. profiles/ ask for this plugin. It logs nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase

from mfm.errors import exits_on_user_error
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


class LogHandler(LogHandlerBase):
    """The plugin, by the name that Snakemake looks for."""

    def __post_init__(self) -> None:
        """Check, and end Snakemake in one line where a file is wrong."""
        exits_on_user_error(check_settings)(files_of(sys.argv[1:]))

    def emit(self, record: LogRecord) -> None:
        """Nothing: Snakemake's own logger shows it."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
