"""SimCLR: two views of an image are to be told from the views of all other images."""

from mfm.objectives.simclr.settings import SimclrPretraining as Settings

__all__ = ["Settings"]
