"""The supervised objective: smoothed and mixed targets, cross-entropy or binary cross-entropy."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mfm.data.loading.augment import erase, plan_mix
from mfm.data.loading.batches import Batch, to_float
from mfm.data.loading.order import Step
from mfm.numerics.draws import Ints
from mfm.numerics.pixels import normalise
from mfm.objectives.supervised.recipe import Supervision


def smoothed_targets(
    labels: Tensor,
    *,
    classes: int,
    smoothing: float,
    over: Literal["others", "all"] = "others",
) -> Tensor:
    """1 - s on the label's class and s / (classes - 1) on each other: float32 [n, classes].

    That is upstream's form, over 'others'. torchvision and timm spread s over all classes, the
    label's included: s / classes on each, and 1 - s more on the label's.
    """
    if over == "all":
        return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    off = smoothing / (classes - 1) if classes > 1 else 0.0
    targets = F.one_hot(labels, classes).float()
    return targets * (1 - smoothing - off) + off


def classification_losses(logits: Tensor, targets: Tensor, *, loss: str) -> Tensor:
    """Loss of each image: [n]. BCE is the mean over classes, CE the cross-entropy."""
    if loss == "bce":
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    return F.cross_entropy(logits, targets, reduction="none")


class SupervisedObjective:
    """One step's supervised loss (see mfm.engine.Objective)."""

    def __init__(
        self, training: Supervision, *, classes: int, seed: int, rows: Ints | None = None
    ) -> None:
        """`rows` are the images' manifest rows, which the draws of random erasing are keyed by."""
        assert rows is not None or not training.erasing
        self._rows = rows
        self._training = training
        self._classes = classes
        self._seed = seed

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """This rank's share of the step's mean loss."""
        training = self._training
        images = normalise(to_float(batch.images), mean=training.mean, std=training.std)
        targets = smoothed_targets(
            batch.labels,
            classes=self._classes,
            smoothing=training.smoothing,
            over=training.smoothing_over,
        )
        if training.erasing:
            assert self._rows is not None
            rows = self._rows[batch.positions.numpy()]
            erase(
                images, probability=training.erasing, seed=self._seed, epoch=step.epoch, rows=rows
            )
        mix = plan_mix(
            mixup=training.mixup,
            cutmix=training.cutmix,
            seed=self._seed,
            epoch=step.epoch,
            step=step.number,
        )
        if mix is not None:
            images = mix.images(images)
            targets = mix.targets(targets, size=images.shape[-1])
        if training.bce_threshold is not None:
            targets = (targets > training.bce_threshold).float()
        logits = model(images)
        losses = classification_losses(logits.float(), targets, loss=training.loss)
        return losses.sum() / len(step.positions)
