"""Masked frequency modeling: settings, mathematics, step, pictures."""

from mfm.objectives.mfm.settings import MfmPretraining as Settings

__all__ = ["Settings"]
