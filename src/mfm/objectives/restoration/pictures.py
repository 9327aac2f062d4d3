"""Pictures of a restoration: the image, what the model sees of it, and what it makes of that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.objectives.pictures import SNAPSHOTS, Picture, Pictures, Seen
from mfm.objectives.restoration.degradations import Keys
from mfm.objectives.restoration.objective import Restoration

_CAPTIONS = {
    "epochs": "What the model makes of the input, as the training goes on. If pretraining works, "
    "these come nearer to the image from left to right.",
    "reconstructions": "What the trained model is given, what it makes of that, and the image that "
    "it should have made.",
}


class RestorationPictures(Pictures):
    """Predictions from degraded images."""

    def __init__(self, task: Restoration, *, title: str) -> None:
        self._task = task
        self._title = title

    def look(self, model: nn.Module, images: Tensor) -> Seen:
        """`prediction` [n, 3, H, W], of normalised images, and its mean loss."""
        training = model.training
        model.eval()
        with torch.inference_mode():
            predictions = model(self._inputs(images)).float()
            loss = self._task.image_losses(predictions, images).double().mean()
        model.train(training)
        return {"prediction": predictions.cpu(), "loss_whole": loss.cpu()}

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
        inputs = self._pixels(self._inputs(images))
        ways = {panels.epoch_title(epoch): seen["prediction"] for epoch, seen in kept.items()}
        last = {"prediction": self.look(model, images)["prediction"]}
        title = f"{name}: {self._title}"
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
            columns = {"input": inputs}
            columns |= {head: self._pixels(values.float()) for head, values in seen.items()}
            columns |= {"image": images}
            figures[figure], axes = panels.grid(len(chosen), len(columns), title)
            for place, (head, values) in enumerate(columns.items()):
                axes[0, place].set_title(head, fontsize=8, loc="center")
                for axis, image in zip(axes[:, place], chosen, strict=True):
                    panels.show(axis, values[image], torch.tensor([0.0, 1.0]))
        return [
            Picture(name=each, figure=figure, caption=_CAPTIONS[each])
            for each, figure in figures.items()
        ]

    def _inputs(self, images: Tensor) -> Tensor:
        """With the same random numbers at every look."""
        return self._task.corrupt(images, Keys(seed=0, epoch=0, rows=np.arange(len(images))))

    def _pixels(self, values: Tensor) -> Tensor:
        """Normalised images in [0, 1] again."""
        black, white = (self._task.target(torch.full((1, 3, 1, 1), level)) for level in (0.0, 1.0))
        return (values - black) / (white - black)
