"""Record of a step whose numbers went bad, for `mfm replay`, and the error that ends the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mfm.data.linking.manifest import Images
from mfm.errors import UserError
from mfm.processes.ranks import Process
from mfm.training import checkpoint
from mfm.training.nonfinite import BadStep

FOLDER = "bad"


def refusal(
    bad: BadStep,
    *,
    model: nn.Module,
    images: Images,
    number_format: str,
    identity: dict[str, Any],
    run: Path,
    process: Process,
) -> UserError:
    """Write what a replay needs, and give the error that ends the run.

    The file holds the weights before the step, and this rank's images as they were cropped.
    """
    step = bad.step
    # Positions in the file count within the step's global batch.
    order = {int(position): index for index, position in enumerate(step.positions)}
    micro_batches = [
        {
            "images": batch.images.cpu(),
            "labels": batch.labels.cpu(),
            "positions": torch.tensor([order[int(p)] for p in batch.positions]),
        }
        for batch in bad.batches
    ]
    state = {
        "identity": identity,
        "precision": number_format,
        "rank": process.rank,
        "world": process.world,
        "epoch": step.epoch,
        "step": step.number,
        "rows": torch.from_numpy(images.rows[step.positions]),
        "paths": [str(images.path(int(position))) for position in step.positions],
        "classes": len(images.classes),
        "micro_batches": micro_batches,
        "model": model.state_dict(),
        "what": bad.what,
        "loss": bad.loss,
    }
    name = f"epoch{step.epoch + 1:05d}-step{step.number + 1:08d}-rank{process.rank}.pt"
    path = run / FOLDER / name
    checkpoint.save_state(state, path)
    mine = list(dict.fromkeys(np.concatenate(step.micro_batches)))  # each once, whatever its views
    names = ", ".join(images.place(int(position)).name for position in mine[:4])
    last = checkpoint.rolling(run)
    return UserError(
        f"{bad.what} at epoch {step.epoch + 1}, step {step.number + 1} ({len(mine)} images: "
        f"{names}, ...); last good checkpoint: {last[0] if last else 'none yet'}; see where it "
        f"went wrong with `mfm replay {path}`, then lower the learning rate, set clip, "
        "or use fp32"
    )
