"""TensorBoard's files of runs that are there or going on."""

from __future__ import annotations

import json
from pathlib import Path

from mfm.files.atomic import write_text
from mfm.reporting.tracking.runs import Tracked
from mfm.training.tensorboard import Board


def open_tracker(at: str) -> BoardFolder:
    """A folder for `tensorboard --logdir`."""
    return BoardFolder(Path(at))


class BoardFolder:
    """A folder a run, written anew whenever there is more to tell: so each epoch is there once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, run: Tracked) -> bool:
        """Write the run, unless what lies there is of the same."""
        folder = self._folder / run.name
        sent = folder / "sent.txt"
        if sent.exists() and sent.read_text(encoding="utf-8") == run.digest:
            return False
        board = Board(folder, run.epochs)
        told = {"state": run.state, **run.facts, **run.settings}
        board.tell("settings", json.dumps(told, indent=2, ensure_ascii=False))
        board.values(run.found, step=len(run.epochs))
        board.close()
        write_text(sent, run.digest)
        return True
