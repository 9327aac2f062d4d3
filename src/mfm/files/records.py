"""Records of stages: what each read and what it left, by SHA-256, in a small file beside that.

`model.safetensors.record.json` lies beside `model.safetensors` and holds paths from its own
folder, so that a whole folder of results can be moved or sent. A number is believed when each file
on the way to it is what its stage left, and what the next stage read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mfm.errors import UserError
from mfm.files.atomic import write_text

_ENDING = ".record.json"
# What no stage leaves: settings, which Snakemake writes, and what grows on its own.
_UNRECORDED = ("deleted.txt", "question.csv")


def record_of(file: Path) -> Path:
    """The record of the stage that leaves `file`, if that is what it is named after."""
    return file.with_name(file.name + _ENDING)


def write(*, read: Iterable[str | Path], left: Iterable[str | Path]) -> None:
    """Write a stage's record, named after the first file that it left."""
    files = [Path(file) for file in left]
    record = record_of(files[0])
    sums = {"read": _sums(read, record.parent), "left": _sums(files, record.parent)}
    write_text(record, json.dumps(sums, indent=2, sort_keys=True) + "\n")


class Job(Protocol):
    """What Snakemake tells a script of its job."""

    input: Iterable[str]
    output: Iterable[str]


@contextmanager
def stage(job: Job, *, results: str | Path) -> Iterator[int]:
    """Check what a job reads, and on success record what it read and left.

    Gives the number of files that were checked; raises UserError as `check` does.
    """
    yield check(job.input, results=results)
    write(read=job.input, left=job.output)


def check(files: Iterable[str | Path], *, results: str | Path | None) -> int:
    """Check files and all that they were made from; the number of files that were looked at.

    Raises UserError that names the first one which doesn't fit, the one that others were made from
    before those; also for one in the results folder that has no record, and should. `results` is
    None for files that are in none.
    """
    chain = Chain(None if results is None else Path(results))
    for file in files:
        for each in _plain_files(Path(file)):
            chain.follow(each)
        if chain.problems:
            raise UserError(chain.problems[0])
    return len(chain.sums)


def check_unchanged(record: Path, *, config: str | None = None, small: bool = False) -> None:
    """Check that nobody has changed a finished stage's files since, at the cost of a look at each.

    For the start of a workflow: one that finds a changed file runs what depends on it again, and
    removes that first. `small` files are compared whatever their times are. `config` is what
    the stage's settings file says today. Where the stage has read the same, another one on the disk
    is an edit of it.

    Raises UserError for a file that is newer than the record, and not what it says.
    """
    sums = _load(record)
    if sums is None:
        return
    written = record.stat().st_mtime_ns
    for file, known in sums["left"].items():
        if not file.exists() or not (small or file.stat().st_mtime_ns > written):
            continue
        if _sum(file) != known:
            raise UserError(f"{file} is not what its stage left: {again(file)}")
    file = _tidy(record.parent / "config.json")
    if config is not None and file.exists():
        mine = hashlib.sha256(config.encode()).hexdigest()
        if sums["read"].get(file) == mine != _sum(file):
            raise UserError(
                f"{file} is not what the workflow wrote: change the configuration instead, and "
                f"{again(file)}"
            )


def records_below(folder: Path) -> list[Path]:
    """All records in a folder, at any depth."""
    return sorted(folder.rglob(f"*{_ENDING}"))


@dataclass
class Chain:
    """Files that were followed back to what they were made from."""

    results: Path | None  # outside of it, files may be of no stage, and change
    problems: list[str] = field(default_factory=list)  # a line each, in the order of their making
    bad: set[Path] = field(default_factory=set)
    # Read from outside the results, and gone or changed since: no fault of these results.
    elsewhere: set[Path] = field(default_factory=set)
    sums: dict[Path, str | None] = field(default_factory=dict)

    def follow(self, file: Path) -> None:
        """Look at a file and at everything that it was made from."""
        file = _tidy(file)
        if file in self.sums:
            return
        self.sums[file] = _sum(file)
        record = _find_record(file)
        if record is None:
            self._without_record(file)
        else:
            self.follow_record(record)

    def follow_record(self, record: Path) -> None:
        """Look at everything that a stage read, then at what it left."""
        record = _tidy(record)
        if record in self.sums:
            return
        self.sums[record] = _sum(record)
        sums = _load(record)
        if sums is None:
            self.problems.append(f"{record} can't be read: {again(record)}")
            return
        for file, known in sums["read"].items():
            self.follow(file)
            if self.sums[file] == known or file in self.bad:
                continue
            if self._inside(file):
                made = _main(record, sums)
                why = f"{file} is not what was read when {made} was made"
                self.problems.append(f"{why}: {again(made)}")
            else:
                self.elsewhere.add(file)
        for file, known in sums["left"].items():
            if file not in self.sums:
                self.sums[file] = _sum(file)
            if self.sums[file] != known:
                what = "missing" if self.sums[file] is None else "not what its stage left"
                self._refuse(file, f"is {what}")

    def _inside(self, file: Path) -> bool:
        return self.results is not None and file.is_relative_to(_tidy(self.results))

    def _without_record(self, file: Path) -> None:
        if self._inside(file) and file.suffix != ".json" and file.name not in _UNRECORDED:
            there = file.exists()
            self._refuse(file, "has no record of its making" if there else "is missing")

    def _refuse(self, file: Path, what: str) -> None:
        self.bad.add(file)
        self.problems.append(f"{file} {what}: {again(file)}")


def again(file: Path) -> str:
    """What to do about a file that can't be trusted."""
    return (
        f"restore it, or make it again: snakemake --cores all --force {file} (with your "
        "--configfile, if any)"
    )


def _main(record: Path, sums: Mapping[str, Mapping[Path, str]]) -> Path:
    """The file that a record is named after."""
    return next((file for file in sums["left"] if record_of(file) == record), record)


def _find_record(file: Path) -> Path | None:
    """The record that says it left a file: in its folder, or in the one above."""
    if file.name.endswith(_ENDING):
        return None
    others = [sorted(folder.glob(f"*{_ENDING}")) for folder in (file.parent, file.parent.parent)]
    for record in dict.fromkeys([record_of(file), *others[0], *others[1]]):
        if record.is_file() and file in ((_load(record) or {}).get("left") or {}):
            return record
    return None


def _load(record: Path) -> dict[str, dict[Path, str]] | None:
    """A record's sums by path; None for a file that is none, or damaged."""
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        return {
            key: {_tidy(record.parent / name): str(known) for name, known in said[key].items()}
            for key in ("read", "left")
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _sums(files: Iterable[str | Path], folder: Path) -> dict[str, str]:
    found = {}
    for each in files:
        for file in _plain_files(Path(each)):
            if file.name in _UNRECORDED:
                continue
            found[_relative(file, folder)] = sha256(file)
    return found


def _plain_files(file: Path) -> list[Path]:
    """A file, or what a folder holds, but for Snakemake's own hidden files."""
    if not file.is_dir():
        return [file]
    return sorted(each for each in file.rglob("[!.]*") if each.is_file())


def _relative(file: Path, folder: Path) -> str:
    """From the record's folder, for what moves with it; as it is for what alone is absolute."""
    if file.is_absolute() and not folder.is_absolute():
        return str(file)
    return Path(os.path.relpath(file, folder)).as_posix()


def _tidy(file: Path) -> Path:
    return Path(os.path.normpath(file))


def sha256(file: Path) -> str:
    """A file's sum, in hexadecimal; raises UserError for one that can't be read."""
    found = _sum(file)
    if found is None:
        raise UserError(f"{file} is missing or can't be read")
    return found


def _sum(file: Path) -> str | None:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
