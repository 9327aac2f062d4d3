"""Pictures of masked frequency modeling: what the model sees, predicts, and should predict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mfm.errors import UserError
from mfm.objectives.mfm.bands import look_at_band
from mfm.objectives.mfm.task import MaskedFrequencyModeling
from mfm.objectives.pictures import SNAPSHOTS, Picture, Pictures, Seen

_CAPTIONS = {
    "epochs": "The input's band, completed by what the model predicts of the removed one, as the "
    "training goes on. If pretraining works, these come nearer to the target from left to right.",
    "reconstructions": "What the trained model is given, and what the loss compares: the removed "
    "frequencies as it predicts them, and as they are. What it predicts of the others is in no "
    "loss, and not shown: beside it, the input's own band is completed by the prediction.",
    "spectra": "Log spectra of the same pictures. Inside the circle lies what a low-pass input "
    "keeps and a high-pass input has lost. (The paper's recipe clamps its inputs to the range of "
    "pixels, which puts a little back.)",
}


class MfmPictures(Pictures):
    """Predictions from the low and from the high frequencies of each image."""

    def __init__(self, task: MaskedFrequencyModeling) -> None:
        self._task = task

    def look(self, model: nn.Module, images: Tensor) -> Seen:
        """`prediction_low` and `prediction_high`, [n, out_channels, H, W], and their losses."""
        seen: Seen = {}
        for name, low in (("low", True), ("high", False)):
            band = look_at_band(model, self._task, images, low=low)
            seen[f"prediction_{name}"] = band.predictions
            seen[f"loss_{name}"] = torch.tensor(band.loss, dtype=torch.float64)
        return seen

    def answers(self, images: Tensor) -> Tensor:
        """The target."""
        return self._task.target(images)

    def draw(
        self, model: nn.Module, images: Tensor, kept: Mapping[float, Seen], *, name: str
    ) -> list[Picture]:
        """The predictions over the epochs, those of the trained model, and their spectra.

        Raises UserError for snapshots of other images.
        """
        # A training keeps predictions and draws nothing: it doesn't load matplotlib.
        from mfm.objectives.mfm import figures

        task = self._task
        if any(len(seen["prediction_low"]) != len(images) for seen in kept.values()):
            raise UserError(
                f"the {SNAPSHOTS} of {name} are of other images; remove that folder, or pretrain "
                "again"
            )
        bands = {low: look_at_band(model, task, images, low=low) for low in (True, False)}
        title = f"{name}: recipe {task.recipe}, radius {task.radius:.3g}"
        columns = figures.compared(task, images, bands)
        drawn = {
            "epochs": figures.draw_epochs(task, images, kept, title=name),
            "reconstructions": figures.draw_reconstructions(columns, title=title),
            "spectra": figures.draw_spectra(columns, task.radius, title=title),
        }
        return [
            Picture(name=each, figure=figure, caption=_CAPTIONS[each])
            for each, figure in drawn.items()
        ]
