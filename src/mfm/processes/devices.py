"""Device that a process computes on: as the experiment's `device` says, or what there is."""

from __future__ import annotations

import os
from typing import Literal

from mfm.errors import UserError

Device = Literal["auto", "cpu", "cuda", "mps"]
# From the workflow to its jobs, and for a command that is called by hand.
VARIABLE = "MFM_DEVICE"
_MISSING = {
    "cuda": "torch sees no NVIDIA GPU here",
    "mps": "torch sees no Apple GPU here",
}


def asked() -> str:
    """What this process is to compute on."""
    return os.environ.get(VARIABLE, "auto")


def kind(wanted: str, *, cuda: bool, mps: bool) -> str:
    """The kind of device to use, of those that are there; a GPU before the CPU.

    Raises UserError for one that isn't.
    """
    there = {"cuda": cuda, "mps": mps, "cpu": True}
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if wanted not in there:
        raise UserError(f"{VARIABLE} is {wanted}: set auto, {', '.join(sorted(there))}")
    if not there[wanted]:
        raise UserError(f"device: {wanted}, and {_MISSING[wanted]}: set device: auto")
    return wanted
