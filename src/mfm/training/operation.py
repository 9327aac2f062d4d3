"""Operation of a run: workers, checkpoints, time limits; nothing here changes what it computes."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

from mfm.processes.lifetime import StopRequest


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How a run is operated."""

    run: Path  # folder of the run
    workers: int  # loader processes per rank
    checkpoint_epochs: int  # a rolling checkpoint every so many epochs,
    checkpoint_steps: int | None = None  # and every so many steps of an epoch,
    checkpoint_minutes: float | None = None  # and when the last one is so old
    keep: int = 2  # rolling checkpoints kept
    timeout_minutes: float = 10.0  # for a rank that waits for another one
    max_skipped: int = 20  # steps in a row that fp16's scaler may skip
    resume_changed: bool = False  # continue a checkpoint of another configuration
    tensorboard: bool = False  # also leave TensorBoard's event files
    stop: StopRequest = field(default_factory=StopRequest)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `from_options` reads, and those of the run's files."""
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


def from_options(options: argparse.Namespace, stop: StopRequest) -> Operation:
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


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"give a number from 1, not {text}")
    return number
