"""Shared memory, by which processes of one program pass on what they make."""

from __future__ import annotations

import multiprocessing

from mfm.errors import UserError

REFUSAL = (
    "/dev/shm, through which loader processes pass on images, is missing or too small: make it "
    "larger (docker run --shm-size=2g), or use none (snakemake --set-resources pretrain:workers=0 "
    "finetune:workers=0 evaluate:workers=0)"
)


def works() -> bool:
    """Whether locks can be shared, of which queues to other processes need a few."""
    try:
        return len([multiprocessing.Lock() for _ in range(32)]) > 0
    except OSError:
        return False


def check() -> None:
    """Raise UserError where that isn't so."""
    if not works():
        raise UserError(REFUSAL)
