"""Masked frequency modeling: pretraining, finetuning and an honest comparison of arms.

Source of the method: Xie et al., "Masked Frequency Modeling for Self-Supervised Visual
Pre-Training", ICLR 2023, arXiv 2206.07706.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfm.calling.experiment import Experiment

__all__ = ["Experiment"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Experiment`, imported when somebody asks for it: a job of the workflow needs none."""
    if name == "Experiment":
        from mfm.calling.experiment import Experiment

        return Experiment
    raise AttributeError(f"module 'mfm' has no attribute '{name}'")
