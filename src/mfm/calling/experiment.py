"""Experiment of a notebook: drafted, run and read from Python, with the files of the workflow.

from mfm import Experiment

experiment = Experiment.from_folder("pictures").run()
experiment.table()
experiment.figures["difference"]
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from mfm.calling.workflow import command, configurations
from mfm.errors import UserError
from mfm.experiment.layout import Layout
from mfm.experiment.settings import Experiment as Settings
from mfm.experiment.settings import load_yaml

if TYPE_CHECKING:
    import pandas as pd

    from mfm.reporting.finished import Finished

# What the logger plugin prints: a job that starts, and how many are done.
_DONE = re.compile(r"\[[\d:]+\] (\d+) of (\d+) done: .*")
_STARTED = re.compile(r"\[[\d:]+\] (?!failed: )(.+)")
_BAR = "{n_fmt} of {total_fmt} jobs {bar:30} {elapsed} {desc}"
_ERROR, _NOTE = "mfm: error: ", "mfm: note: "


class Figure:
    """A figure of the comparison, which a notebook shows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _repr_svg_(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        return f"Figure({str(self.path)!r})"


class Experiment:
    """An experiment, by its files of settings. Its results and data are below the current folder.

    `Experiment("mine.yaml")` is that file's, `Experiment("tiny")` one that came along; later files
    are laid over earlier ones, as `mfm run` takes them.
    """

    def __init__(self, *files: str | Path) -> None:
        words = [str(Path(file).expanduser()) for file in files]
        self.files = configurations(words)
        if len(self.files) < len(words):
            raise UserError(f"'{words[len(self.files)]}' is no configuration: give a .yaml file")
        self.settings: Settings = load_yaml(*self.files)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        out: str | Path = "mine.yaml",
        labels: str | Path | None = None,
        time: str | None = None,
    ) -> Self:
        """The experiment that `mfm init` drafts for a folder of pictures, and writes to `out`.

        `labels` is a CSV file of labels, where there are no class folders; `time` fits the
        experiment to a budget, as '30m'. A draft that is there for the same folder is taken as it
        is, so that a notebook can be run again. Raises UserError for any other file.
        """
        from mfm.planning.budget import seconds_of
        from mfm.planning.drafting import draft_file
        from mfm.planning.layouts import lay_out

        folder, out = Path(folder).expanduser(), Path(out).expanduser()
        file = None if labels is None else Path(labels).expanduser()
        if not out.exists():
            seconds = None if time is None else seconds_of(time)
            draft_file(folder, out, labels=file, seconds=seconds)
            return cls(out)
        found = cls(out)
        dataset, here = found.settings.dataset, lay_out(folder, file)
        if here.source != Path(dataset.source).expanduser().resolve():
            raise UserError(f"{out} is another folder's experiment: give another name as out")
        known = None if dataset.labels is None else Path(dataset.labels).expanduser().resolve()
        if file is not None and here.labels != known:
            raise UserError(f"{out} is an experiment with other labels: give another name as out")
        print(f"{out} is there, and taken as it is.")
        return found

    def run(self, *words: str) -> Self:
        """Run whatever isn't finished yet, with progress. `words` are Snakemake's.

        Raises UserError with the lines that say what failed. Interrupted, trainings end with a
        checkpoint, and the next call goes on from there.
        """
        # In a session of its own an interrupt comes once: a second would end it at once. As in a
        # terminal, it comes to Snakemake, which waits for its jobs, and to them, which end then.
        process = subprocess.Popen(
            command(self.files, words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        progress = _Progress()
        try:
            for line in process.stdout or ():
                progress.show(line.rstrip("\n"))
        except BaseException:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.communicate()
            raise
        finally:
            progress.close()
        if process.wait():
            raise UserError(progress.failure)
        return self

    @property
    def layout(self) -> Layout:
        """The paths of everything that it writes."""
        return Layout(self.settings.results)

    @property
    def answer(self) -> str:
        """The sentence that the table opens with."""
        from mfm.reporting import table
        from mfm.reporting.document import plain

        return plain(table.opening(self._finished, table.compare(self._finished)))

    def table(self) -> pd.DataFrame:
        """The comparison as numbers: a row an arm, the columns of `mfm.reporting.frame`."""
        from mfm.reporting.frame import frame

        return frame(self._finished)

    def runs(self) -> pd.DataFrame:
        """A row a finetuning, as results.csv has them."""
        return self._finished.results.copy()

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name; a notebook shows one that is a cell's last line."""
        folder = Path(self.layout.figure("difference")).parent
        return {path.stem: Figure(path) for path in sorted(folder.glob("*.svg"))}

    @property
    def report(self) -> Path:
        """The report, a page for a browser."""
        return Path(self.layout.file("report.html"))

    @property
    def _finished(self) -> Finished:
        from mfm.reporting.finished import read

        if not Path(self.layout.rows).is_file():
            raise UserError(f"{self.layout.rows} is not there yet: call .run() first")
        return read(self.settings)

    def __repr__(self) -> str:
        return f"Experiment({', '.join(repr(str(file)) for file in self.files)})"


class _Progress:
    """What a call of the workflow prints, as a bar; and what it says of failures."""

    def __init__(self) -> None:
        self._bar = tqdm(file=sys.stdout, bar_format=_BAR)
        self._errors: list[str] = []
        self._last: deque[str] = deque(maxlen=10)

    def show(self, line: str) -> None:
        """Take a line in."""
        if done := _DONE.fullmatch(line):
            self._bar.total, self._bar.n = int(done[2]), int(done[1])
            self._bar.refresh()
        elif started := _STARTED.fullmatch(line):
            self._bar.set_description_str(started[1])
        elif line.startswith(_ERROR):
            self._errors.append(line.removeprefix(_ERROR))
        elif line.startswith(_NOTE):
            self._bar.write(line, file=sys.stdout)
        self._last.append(line)

    def close(self) -> None:
        """The bar stays as it is, without the last job's name."""
        self._bar.set_description()
        self._bar.close()

    @property
    def failure(self) -> str:
        """What failed: the errors, or else the last lines."""
        return "; ".join(self._errors) or "\n".join(self._last)
