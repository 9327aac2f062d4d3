"""Jobs as the terminal shows them: a name, why it runs, why it failed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm.errors import explain
from mfm.files.atomic import check_writable

_LONGEST = 100  # characters of a reason
_EXIT = re.compile(r"exit status (-?\d+)|died with <Signals\.(\w+): \d+>")
_TEXT = r"'(?:[^'\\]|\\.)*'"
_PARAMS = re.compile(r"Params have changed since last execution: .*")
_BEFORE_AND_NOW = re.compile(f"before: ({_TEXT}) now: ({_TEXT})")


@dataclass(frozen=True)
class Job:
    """A job that was started, or would be."""

    name: str  # its rule with its wildcards
    logs: tuple[Path, ...]

    @property
    def is_small(self) -> bool:
        """Whether it only writes a configuration down."""
        return self.name.split()[0].endswith("config")


def job_of(said: Mapping[str, Any]) -> Job:
    """The job of a record that says that one starts."""
    words = [f"{name}={value}" for name, value in said["wildcards"].items() if value != ""]
    return Job(" ".join([said["rule_name"], *words]), tuple(map(Path, said["log"])))


def shorten(reason: str) -> str:
    """Why a job runs, in a line: of changed configurations the keys and their values."""
    reason = _PARAMS.sub(lambda found: f"Params have changed: {_changes(found.group())}", reason)
    parts = [
        part if len(part) <= _LONGEST else f"{part[:_LONGEST]}..." for part in reason.split("; ")
    ]
    return "; ".join(parts)


def _changes(text: str) -> str:
    found = _BEFORE_AND_NOW.search(text)
    if found is None:
        return "others than before"
    try:
        before, now = (_flat(json.loads(ast.literal_eval(part))) for part in found.groups())
    except ValueError:
        return "others than before"
    missing = object()
    changed = [
        f"{key} {json.dumps(before.get(key))} -> {json.dumps(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing)
    ]
    return ", ".join(changed) or "others than before"


def _flat(value: Any) -> dict[str, Any]:
    return dict(_leaves(value, ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for key, part in value.items():
        yield from _leaves(part, f"{name}.{key}" if name else key)


def why_failed(job: Job, said: str) -> str:
    """Why a job failed: what its log says last, or else how it ended, by Snakemake's own text."""
    lines = [line for log in job.logs for line in _lines(log)]
    for found in (_last(lines, "mfm: error: "), _exception(lines), _last(lines, "mfm: ")):
        if found:
            return found
    for log in job.logs:  # a full disk has taken no line either
        try:
            check_writable(log.parent)
        except OSError as error:
            return explain(error) or str(error)
    if (ended := _EXIT.search(said)) is None:
        return " ".join(said.split()) or "it failed"
    code, signal = ended.groups()
    if signal == "SIGKILL" or code in ("-9", "137"):
        return "it was killed (SIGKILL), maybe for want of memory"
    return f"it was ended by {signal}" if signal else f"it ended with exit code {code}"


def _last(lines: Sequence[str], sign: str) -> str | None:
    found = [line.removeprefix(sign) for line in lines if line.startswith(sign)]
    return found[-1] if found else None


def _exception(lines: Sequence[str]) -> str | None:
    """The line of an exception below its traceback, of the last one."""
    found, inside = None, False
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line[0].isspace():
            found, inside = line, False
    return found


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()
    except OSError:
        return []
