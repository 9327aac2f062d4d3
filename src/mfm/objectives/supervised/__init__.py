"""Training with labels: the supervised pretraining, and finetuning."""

from mfm.objectives.supervised.settings import SupervisedPretraining as Settings

__all__ = ["Settings"]
