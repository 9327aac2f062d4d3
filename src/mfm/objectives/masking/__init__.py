"""Masking of patches: SimMIM for all networks."""

from mfm.objectives.masking.settings import SimmimPretraining as Settings

__all__ = ["Settings"]
