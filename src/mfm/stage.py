"""What the command lines of pretraining and finetuning share."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from mfm import config, environment, precision
from mfm.data.loader import Loader, TrainBatches, create_loader
from mfm.data.manifest import Images
from mfm.data.plan import Plan
from mfm.distributed import Process
from mfm.engine import Operation
from mfm.lifetime import StopRequest, end_with_launcher, end_with_parent
from mfm.version import code_version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a training stage."""
    parser.add_argument("--config", type=Path, required=True, help="resolved JSON of this run")
    parser.add_argument("--manifest", type=Path, required=True, help="data/<name>/manifest.parquet")
    parser.add_argument("--folder", type=Path, required=True, help="folder of this run")
    parser.add_argument("--workers", type=int, default=1, help="loader processes per rank")
    add = parser.add_argument_group("how the run is operated; nothing here changes its result")
    add.add_argument("--checkpoint-epochs", type=_count, default=1, help="epochs per checkpoint")
    add.add_argument(
        "--checkpoint-steps", type=int, default=0, help="steps per checkpoint; 0 (default): none"
    )
    add.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=0,
        help="longest time without a checkpoint; 0 (default): no limit",
    )
    add.add_argument("--keep", type=_count, default=2, help="rolling checkpoints kept")
    add.add_argument(
        "--timeout-minutes",
        type=float,
        default=10.0,
        help="longest time that a rank waits for another; then the run ends",
    )
    add.add_argument(
        "--max-skipped", type=_count, default=20, help="steps in a row that fp16 may overflow in"
    )
    add.add_argument(
        "--resume-changed",
        action="store_true",
        default=os.environ.get("MFM_RESUME_CHANGED") == "1",
        help="continue a checkpoint of another configuration (also: MFM_RESUME_CHANGED=1)",
    )
    add.add_argument(
        "--tensorboard",
        action="store_true",
        default=os.environ.get("MFM_TENSORBOARD") == "1",
        help="also leave TensorBoard's event files in FOLDER/tensorboard (also: MFM_TENSORBOARD=1)",
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"give a number from 1, not {text}")
    return number


def operation(options: argparse.Namespace, stop: StopRequest) -> Operation:
    """How to operate the run, from its options."""
    return Operation(
        run=options.folder,
        workers=options.workers,
        checkpoint_epochs=options.checkpoint_epochs,
        checkpoint_steps=options.checkpoint_steps or None,
        checkpoint_minutes=options.checkpoint_minutes or None,
        keep=options.keep,
        timeout_minutes=options.timeout_minutes,
        max_skipped=options.max_skipped,
        resume_changed=options.resume_changed,
        tensorboard=options.tensorboard,
        stop=stop,
    )


def identity(run: config.PretrainRun | config.FinetuneRun, *, seed: int, **files: str) -> Any:
    """What a checkpoint of this run belongs to: configuration, seed, and checksums of its files."""
    return {"config": json.loads(config.dumps(run)), "seed": seed, "files": files}


def train_loader(
    run: config.PretrainRun | config.FinetuneRun,
    images: Images,
    *,
    seed: int,
    randaugment: config.RandAugment | None,
    operation: Operation,
    process: Process,
) -> Loader:
    """The loader of a run's training images."""
    return create_loader(
        run.loader,
        TrainBatches(
            images,
            crop=run.training.crop,
            size=crop_size(run),
            seed=seed,
            randaugment=randaugment,
        ),
        workers=operation.workers,
        device=process.device,
        timeout_minutes=operation.timeout_minutes,
    )


def plan_of(
    training: config.Training, *, images: int, seed: int, process: Process, pairs: bool
) -> Plan:
    """This rank's part of a run's steps; `pairs` where images are mixed."""
    return Plan(
        images=images,
        batch=training.batch,
        micro_batch=training.micro_batch,
        seed=seed,
        rank=process.rank,
        world=process.world,
        pairs=pairs,
    )


def crop_size(run: config.PretrainRun | config.FinetuneRun) -> int:
    """Side of a training image in pixels."""
    return run.training.crop.size or run.dataset.image_size


def metadata(
    run: config.PretrainRun | config.FinetuneRun | config.EvaluateRun,
    device: torch.device,
    **more: str,
) -> dict[str, str]:
    """What a file of weights or predictions says of itself."""
    wanted = (run.evaluation if isinstance(run, config.EvaluateRun) else run.training).precision
    return {
        "stage": run.stage,
        "backbone": run.model.backbone,
        "dataset": run.dataset.name,
        "loader": run.loader,
        "config_hash": config.config_hash(run),
        "code_version": code_version(),
        "precision": precision.resolve(wanted, device),
        "hardware": environment.hardware(device),
        **environment.versions(run.loader),
        **more,
    }


def begin() -> None:
    """Start a process of a stage: its threads, and its tie to whatever started it."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_launcher()
    else:
        end_with_parent()


def begin_training() -> StopRequest:
    """`begin`, for a stage that checkpoints before it ends on a signal."""
    stop = StopRequest()
    stop.catch_signals()
    begin()
    return stop
