"""Logger plugin of Snakemake: what a call prints, and a check of the files of --configfile.

Snakemake makes its loggers before it reads these files, and says of a wrong one neither where nor
what; nor of a home folder that it can't write to. Of jobs it prints their shell text and all their
parameters, and an error somewhere in between. Here a job is a line when it starts and a line when
it is done, and whatever fails, it is said last. profiles/ ask for this plugin; Snakemake's own text
is in .snakemake/log/, and on the terminal with --verbose.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from mfm.errors import UserError, exits_on_user_error
from mfm.files.atomic import check_writable
from mfm.settings.files import check_settings
from snakemake_logger_plugin_mfm.interrupts import tell_interrupts
from snakemake_logger_plugin_mfm.jobs import Job, job_of, shorten, why_failed

# What helps nobody who wants to know how their experiment goes.
_LEFT_OUT = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Cannot restore ",
    "Complete log",
    "Conda environments: ignored",
    "DAG of jobs will be updated",
    "Elapsed time: ",
    "Exiting because a job execution failed",
    "Execute ",
    "Reasons:",
    "Removing output files of failed job",
    "Select jobs to execute",
    "Some jobs were triggered by provenance information",
    "If you prefer that only modification time",
    "If you are sure that a change for a certain output file",
    "Rules with provenance triggered jobs",
    "Updating checkpoint dependencies",
    "Using shell: ",
)
_EVENTS_LEFT_OUT = (LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.SHELLCMD)
_NOTHING_TO_DO = "Nothing to be done"
_FAILED = "At least one job did not complete successfully"
_ANSWER = re.compile(r"^\*\*(.+?)\*\*$", re.MULTILINE)
_LONGEST = 600  # characters of an error


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
        tell_interrupts()
        self._jobs: dict[int, Job] = {}
        self._finished = ""  # the job that the next count of steps is about
        self._reports: list[str] = []  # Snakemake's own, of errors that no job has been found for
        self._errors: list[str] = []
        self._overview = ""  # of the jobs to do, which a dry run prints twice
        self._answer: Path | None = None  # the table that this call was about

    def filter(self, record: LogRecord) -> bool:
        """Errors are said also where --quiet leaves out what is about jobs."""
        return record.levelno >= logging.ERROR or bool(super().filter(record))

    def emit(self, record: LogRecord) -> None:
        """Print a record, or keep it for the end."""
        try:
            text = self._text(record)
            if self.common_settings.verbose:
                text = self.format(record)
            if text:
                self._print(text)
        except Exception:  # as logging's own handlers: a line that fails ends no workflow
            self.handleError(record)

    def close(self) -> None:
        """Say last what this call came to: its errors, or the table's first sentence."""
        errors, self._errors = [*self._errors, *map(_error, self._reports)], []
        self._reports = []
        for error in errors:
            self._print(error)
        answer = None if errors else self._answer
        if answer is not None and answer.exists():
            found = _ANSWER.search(answer.read_text(encoding="utf-8"))
            self._print(f"\n{found.group(1) if found else 'The table'} ({answer})")
        self._answer = None
        super().close()

    def _print(self, text: str) -> None:
        print(text, file=sys.stdout if self.common_settings.stdout else sys.stderr, flush=True)

    def _text(self, record: LogRecord) -> str:
        said, event = record.__dict__, record.__dict__.get("event")
        if event == LogEvent.JOB_INFO:
            return self._started(said)
        if event == LogEvent.JOB_FINISHED:
            job = self._jobs.pop(said["job_id"], None)
            self._finished = job.name if job is not None and not job.is_small else ""
            return ""
        if event == LogEvent.PROGRESS:
            done = f"{said['done']} of {said['total']} done"
            return f"{_now()} {done}: {self._finished}" if self._finished else ""
        if event == LogEvent.JOB_ERROR:
            return self._failed(said)
        if record.levelno >= logging.ERROR:
            text = record.getMessage()
            if not text.startswith(_LEFT_OUT) and not (_FAILED in text and self._errors):
                self._reports.append(text)
            return ""
        if event == LogEvent.RUN_INFO:
            before, self._overview = self._overview, record.getMessage()
            return "" if before == self._overview else self._overview
        if event in _EVENTS_LEFT_OUT and not self.common_settings.printshellcmds:
            return ""
        text = self.format(record)
        if text.startswith(_NOTHING_TO_DO):
            asked = [Path(word) for word in sys.argv[1:] if word.endswith("table.md")]
            self._answer = asked[-1] if asked and not self.common_settings.dryrun else None
        return "" if text.strip().startswith(_LEFT_OUT) else text

    def _started(self, said: dict[str, Any]) -> str:
        job = job_of(said)
        if self.common_settings.dryrun:
            return f"{job.name}: {shorten(str(said['reason']))}"
        self._jobs[said["jobid"]] = job
        if said["rule_name"] == "table":
            self._answer = Path(said["output"][0])
        return "" if job.is_small else f"{_now()} {job.name}"

    def _failed(self, said: dict[str, Any]) -> str:
        logs = [str(log) for log in said["log"]]
        job = self._jobs.pop(said["jobid"], None) or Job(said["rule_name"], tuple(map(Path, logs)))
        # An error's own report comes before; one of a command has the command in it.
        mine = [text for text in self._reports if any(log in text for log in logs)]
        report = (mine or self._reports or [""])[-1]
        if report:
            self._reports.remove(report)
        where = f"; log: {logs[0]}" if logs else ""
        self._errors.append(f"mfm: error: {job.name}: {why_failed(job, report)}{where}")
        return f"{_now()} failed: {job.name}"

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False


def _error(report: str) -> str:
    """An error that is of no job, in one line."""
    text = " ".join(report.split())
    return f"mfm: error: {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"


def _now() -> str:
    return time.strftime("[%H:%M:%S]")
