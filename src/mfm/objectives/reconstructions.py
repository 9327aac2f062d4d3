"""Pictures of a task that predicts images: the input, what the model makes of it, the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.objectives.pictures import SNAPSHOTS, Picture, Pictures, Seen


class Reconstructions(Pictures):
    """One prediction of each image, over the epochs and at the end."""

    captions: Mapping[str, str]  # of 'epochs' and 'reconstructions'
    loss: ClassVar[str]  # what the loss is of, as the task's `losses` has it

    def __init__(self, *, title: str) -> None:
        self._title = title

    @abstractmethod
    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the model in evaluation mode makes of the images, to be kept; each image's loss.

        With the same random numbers at every look.
        """

    @abstractmethod
    def inputs(self, images: Tensor) -> Tensor:
        """What the model is given, to be shown: [n, 3, H, W] in [0, 1]."""

    @abstractmethod
    def shown(self, predictions: Tensor, images: Tensor) -> Tensor:
        """What was predicted, to be shown: [n, 3, H, W] in [0, 1]."""

    def compared(self, predicted: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What the loss sees of pictures as they are shown; nothing more where it sees them all."""
        return {}

    def look(self, model: nn.Module, images: Tensor) -> Seen:
        """`prediction`, and its mean loss."""
        training = model.training
        model.eval()
        with torch.inference_mode():
            predictions, losses = self.predict(model, images)
        model.train(training)
        return {
            "prediction": predictions.float().cpu(),
            f"loss_{self.loss}": losses.double().mean().cpu(),
        }

    def draw(
        self, model: nn.Module, images: Tensor, kept: Mapping[float, Seen], *, name: str
    ) -> list[Picture]:
        """The predictions over the epochs, and those of the trained model.

        Raises UserError for snapshots of other images.
        """
        # A training keeps predictions and draws nothing: it doesn't load matplotlib.
        from mfm.files import style
        from mfm.objectives import panels

        if any(len(seen["prediction"]) != len(images) for seen in kept.values()):
            raise UserError(
                f"the {SNAPSHOTS} of {name} are of other images; remove that folder, or pretrain "
                "again"
            )
        ways = {panels.epoch_title(epoch): seen["prediction"] for epoch, seen in kept.items()}
        last = {"prediction": self.look(model, images)["prediction"]}
        figures = {}
        for figure, seen, chosen in (
            ("epochs", ways, panels.few(images)),
            ("reconstructions", last, np.arange(len(images))),
        ):
            if not seen:
                figures[figure] = style.nothing(
                    "This pretraining kept no predictions on its way; a new one does."
                )
                continue
            columns = {"input": self.inputs(images)}
            made = {head: self.shown(values.float(), images) for head, values in seen.items()}
            columns |= made
            if seen is last:
                columns |= self.compared(made["prediction"], images)
            columns |= {"image": images}
            title = f"{name}: {self._title}"
            figures[figure], axes = panels.grid(len(chosen), len(columns), title)
            for place, (head, values) in enumerate(columns.items()):
                axes[0, place].set_title(head, fontsize=8, loc="center")
                for axis, image in zip(axes[:, place], chosen, strict=True):
                    panels.show(axis, values[image], torch.tensor([0.0, 1.0]))
        return [
            Picture(name=each, figure=figure, caption=self.captions[each])
            for each, figure in figures.items()
        ]
