"""Masking of patches: SimMIM for all networks, MAE for ViTs."""

from mfm.objectives.masking.settings import MaePretraining, SimmimPretraining

Settings = SimmimPretraining | MaePretraining

__all__ = ["Settings"]
