"""What the command lines of pretraining and finetuning share."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from mfm import config
from mfm.engine import Operation
from mfm.lifetime import end_with_launcher, end_with_parent
from mfm.version import code_version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a training stage."""
    parser.add_argument("--config", type=Path, required=True, help="resolved JSON of this run")
    parser.add_argument("--manifest", type=Path, required=True, help="data/<name>/manifest.parquet")
    parser.add_argument("--folder", type=Path, required=True, help="folder of this run")
    parser.add_argument("--workers", type=int, default=1, help="loader processes per rank")
    parser.add_argument("--checkpoint-epochs", type=int, default=1, help="epochs per checkpoint")


def operation(options: argparse.Namespace) -> Operation:
    """How to operate the run, from its options."""
    return Operation(
        run=options.folder, workers=options.workers, checkpoint_epochs=options.checkpoint_epochs
    )


def identity(run: config.PretrainRun | config.FinetuneRun, *, seed: int, **files: str) -> Any:
    """What a checkpoint of this run belongs to: configuration, seed, and checksums of its files."""
    return {"config": json.loads(config.dumps(run)), "seed": seed, "files": files}


def metadata(run: config.PretrainRun | config.FinetuneRun, **more: str) -> dict[str, str]:
    """What a weight file says of itself."""
    return {
        "stage": run.stage,
        "backbone": run.model.backbone,
        "dataset": run.dataset.name,
        "config_hash": config.config_hash(run),
        "code_version": code_version(),
        "torch": torch.__version__,
        **more,
    }


def begin() -> None:
    """Start a process of a stage: its threads, and its tie to whatever started it."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_launcher()
    else:
        end_with_parent()
