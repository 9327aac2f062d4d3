"""Figures of masked frequency modeling: predictions beside what they should be, and spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle
from torch import Tensor

from mfm.files import style
from mfm.objectives.mfm.bands import Band, completed
from mfm.objectives.mfm.task import MaskedFrequencyModeling
from mfm.objectives.pictures import Seen

_FEW = 4  # images of the spectra and of the figure over epochs
_DECADES = 4.0  # of a spectrum, below its largest value
_SIDE = 1.25  # of a panel, inches


@dataclass(frozen=True, kw_only=True)
class Column:
    """One kind of picture of all images."""

    title: str
    values: Tensor  # [n, C, H, W]
    scale: Tensor  # [n, C, H, W]: the pictures whose range is that of the colours


def compared(
    task: MaskedFrequencyModeling, images: Tensor, bands: dict[bool, Band]
) -> list[Column]:
    """What is shown beside each other, for all images."""
    target = task.target(images)
    columns = [Column(title="image", values=images, scale=images)]
    for low, name in ((True, "low-pass"), (False, "high-pass")):
        band = bands[low]
        whole = completed(task, images, band.predictions, low=low)
        columns += [
            Column(title=f"{name}\ninput", values=band.inputs, scale=band.inputs),
            Column(title="prediction\nfrom it", values=band.predictions, scale=target),
            Column(title="input's band\n+ prediction", values=whole, scale=target),
        ]
    return [*columns, Column(title="target", values=target, scale=target)]


def _grid(rows: int, columns: int, title: str) -> tuple[Figure, npt.NDArray[np.object_]]:
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


def _show(axis: Axes, values: Tensor, scale: Tensor) -> None:
    """One picture [C, H, W], black to white as the range of `scale`."""
    low, high = scale.min().item(), scale.max().item()
    shown = ((values - low) / max(high - low, 1e-6)).clamp(0, 1).permute(1, 2, 0)
    axis.imshow(shown.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def as_pixels(task: MaskedFrequencyModeling, values: Tensor) -> Tensor:
    """Normalised RGB [n, 3, H, W] with its colours; luminance as it is."""
    if task.recipe != "paper":
        return values  # normalised alike in all channels
    black, white = (task.normalise(torch.full((1, 3, 1, 1), level)) for level in (0.0, 1.0))
    return (values - black) / (white - black)


def draw_reconstructions(
    task: MaskedFrequencyModeling, columns: list[Column], *, title: str
) -> Figure:
    """Images, inputs, predictions and targets, a line an image."""
    figure, panels = _grid(
        len(columns[0].values),
        len(columns),
        f"{title}. Image and inputs on scales of their own, the rest on the target's.",
    )
    for column, part in enumerate(columns):
        panels[0, column].set_title(part.title, fontsize=8, loc="center")
        plain = column == 0  # the image itself is not normalised
        values = part.values if plain else as_pixels(task, part.values)
        scale = part.scale if plain else as_pixels(task, part.scale)
        for row, axis in enumerate(panels[:, column]):
            _show(axis, values[row], scale[row])
    return figure


def log_spectrum(values: Tensor) -> npt.NDArray[np.float64]:
    """log10 of the amplitudes of [C, H, W], averaged over channels: [H, W], zero in the middle."""
    amplitudes = torch.fft.fft2(values.double(), norm="ortho").abs().mean(0)
    return np.asarray(torch.fft.fftshift(amplitudes).clamp_min(1e-30).log10().numpy())


def _few(images: Tensor) -> npt.NDArray[np.int64]:
    """Positions of the images in the larger figures."""
    return np.unique(np.linspace(0, len(images) - 1, min(_FEW, len(images))).astype(np.int64))


def draw_spectra(columns: list[Column], radius: float, *, title: str) -> Figure:
    """Log spectra of the same, of a few images."""
    chosen = _few(columns[0].values)
    figure, panels = _grid(
        len(chosen),
        len(columns),
        f"{title}. Log spectra, the zero frequency in the middle; the circle is the radius.\n"
        f"Colours span {_DECADES:.0f} decades; image and inputs on scales of their own, the rest "
        "on the target's.",
    )
    for column, part in enumerate(columns):
        panels[0, column].set_title(part.title, fontsize=8, loc="center")
        for row, axis in zip(chosen, panels[:, column], strict=True):
            top = log_spectrum(part.scale[row]).max()
            shown = log_spectrum(part.values[row])
            axis.imshow(
                shown, cmap="cividis", vmin=top - _DECADES, vmax=top, interpolation="nearest"
            )
            height, width = shown.shape
            axis.add_patch(
                Circle(
                    (width // 2, height // 2), radius, fill=False, color=style.OKABE_ITO[1], lw=1.2
                )
            )
    return figure


def draw_epochs(
    task: MaskedFrequencyModeling,
    images: Tensor,
    kept: Mapping[float, Seen],
    *,
    title: str,
) -> Figure:
    """What predictions complete of a few images, from the first weights to the last."""
    if not kept:
        return style.nothing("This pretraining kept no predictions on its way; a new one does.")
    target = as_pixels(task, task.target(images))
    chosen = _few(images)
    figure, panels = _grid(
        2 * len(chosen),
        len(kept) + 2,
        f"{title}: the input's band completed by the prediction, as the training goes on",
    )
    for half, (name, low) in enumerate((("low", True), ("high", False))):
        inputs = as_pixels(task, task.corrupt(images, torch.full((len(images),), low)))
        for place, image in enumerate(chosen):
            row = panels[2 * place + half]
            row[0].set_ylabel(f"{name}-pass", fontsize=8)
            _show(row[0], inputs[image], inputs[image])
            for axis, values in zip(row[1:-1], kept.values(), strict=True):
                whole = completed(task, images, values[f"prediction_{name}"].float(), low=low)
                _show(axis, as_pixels(task, whole)[image], target[image])
            _show(row[-1], target[image], target[image])
    heads = [
        "input",
        *(f"epoch {epoch:.2g}" if epoch < 10 else f"epoch {epoch:.0f}" for epoch in kept),
        "target",
    ]
    for axis, head in zip(panels[0], heads, strict=True):
        axis.set_title(head, fontsize=8, loc="center")
    return figure
