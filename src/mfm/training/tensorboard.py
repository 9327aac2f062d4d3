"""TensorBoard's event files of a run, where they are asked for: the epochs' metrics."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mfm.errors import UserError

if TYPE_CHECKING:
    from mfm.training.metrics import EpochMetrics

FOLDER = "tensorboard"


class Board:
    """Writes each epoch's metrics as scalars.

    A resumed run starts its files anew from the epochs that its checkpoint knows, so that none is
    there twice, and none of a run that was thrown away.
    """

    def __init__(self, run: Path, rows: Sequence[EpochMetrics]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise UserError(
                "TensorBoard's files are asked for, and the package tensorboard is missing: "
                "pip install -c constraints.txt tensorboard, or ask for none (MFM_TENSORBOARD)"
            ) from None
        shutil.rmtree(run / FOLDER, ignore_errors=True)
        self._writer = SummaryWriter(str(run / FOLDER))
        for row in rows:
            self.add(row)

    def add(self, row: EpochMetrics) -> None:
        """Append one epoch."""
        values = asdict(row)
        epoch = values.pop("epoch")
        self.values(values, step=epoch)

    def values(self, values: Mapping[str, float], *, step: int) -> None:
        """Append numbers of one epoch."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def tell(self, name: str, text: str) -> None:
        """A text, shown as it is."""
        self._writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
