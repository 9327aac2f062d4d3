"""Panels of figures that show images beside each other, a line an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from mfm.files import style

_FEW = 4  # images of the larger figures
_SIDE = 1.25  # of a panel, inches


def grid(rows: int, columns: int, title: str) -> tuple[Figure, npt.NDArray[np.object_]]:
    """A figure of empty panels [rows, columns] below a title."""
    close = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(_SIDE * columns, _SIDE * rows + 0.75), layout=close)
    said = "\n".join(style.wrapped(line, _SIDE * columns) for line in title.split("\n"))
    figure.suptitle(said, fontsize=9, x=0.01, ha="left")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axis in panels.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure, panels


def show(axis: Axes, values: Tensor, scale: Tensor) -> None:
    """One picture [C, H, W], black to white as the range of `scale`.

    Of other channels than one or three, the first three are red, green and blue; of two, the first.
    """
    values, scale = (each[: 3 if len(each) >= 3 else 1] for each in (values, scale))
    low, high = scale.min().item(), scale.max().item()
    shown = ((values - low) / max(high - low, 1e-6)).clamp(0, 1).permute(1, 2, 0)
    axis.imshow(shown.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def few(images: Tensor) -> npt.NDArray[np.int64]:
    """Positions of the images in the larger figures."""
    return np.unique(np.linspace(0, len(images) - 1, min(_FEW, len(images))).astype(np.int64))


def epoch_title(epoch: float) -> str:
    """'epoch 0.3' or 'epoch 12'."""
    return f"epoch {epoch:.2g}" if epoch < 10 else f"epoch {epoch:.0f}"
