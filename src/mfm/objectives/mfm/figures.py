"""Figures of masked frequency modeling: predictions beside what they should be, and spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from mfm.files import style
from mfm.objectives.mfm.bands import Band, completed, removed
from mfm.objectives.mfm.task import MaskedFrequencyModeling
from mfm.objectives.panels import epoch_title, few, grid, show
from mfm.objectives.pictures import Seen

_DECADES = 4.0  # of a spectrum, below its largest value


@dataclass(frozen=True, kw_only=True)
class Column:
    """One kind of picture of all images, in the units of pixels."""

    title: str
    values: Tensor  # [n, C, H, W]
    scale: Tensor  # [n, C, H, W]: the pictures whose range is that of the colours


def compared(
    task: MaskedFrequencyModeling, images: Tensor, bands: dict[bool, Band]
) -> list[Column]:
    """What is shown beside each other, for all images."""
    target = as_pixels(task, task.target(images))
    columns = [Column(title="image", values=images, scale=images)]
    for low, name in ((True, "low-pass"), (False, "high-pass")):
        band = bands[low]
        inputs = as_pixels(task, band.inputs)
        whole = as_pixels(task, completed(task, images, band.predictions, low=low))
        lost = removed(task, target, low=low)
        predicted = removed(task, as_pixels(task, band.predictions), low=low)
        columns += [
            Column(title=f"{name}\ninput", values=inputs, scale=inputs),
            Column(title="removed,\npredicted", values=predicted, scale=lost),
            Column(title="removed,\ntarget", values=lost, scale=lost),
            Column(title="input's band\n+ prediction", values=whole, scale=target),
        ]
    return [*columns, Column(title="target", values=target, scale=target)]


def as_pixels(task: MaskedFrequencyModeling, values: Tensor) -> Tensor:
    """Normalised images [n, C, H, W] with their colours; luminance as it is."""
    if task.recipe != "paper":
        return values  # normalised alike in all channels
    black, white = (
        task.normalise(torch.full((1, values.shape[1], 1, 1), level)) for level in (0.0, 1.0)
    )
    return (values - black) / (white - black)


def draw_reconstructions(columns: list[Column], *, title: str) -> Figure:
    """Images, inputs, predictions and targets, a line an image."""
    figure, panels = grid(
        len(columns[0].values),
        len(columns),
        f"{title}. Image and inputs on scales of their own, the rest on that "
        "of the target, or of its removed frequencies.",
    )
    for column, part in enumerate(columns):
        panels[0, column].set_title(part.title, fontsize=8, loc="center")
        for row, axis in enumerate(panels[:, column]):
            show(axis, part.values[row], part.scale[row])
    return figure


def log_spectrum(values: Tensor) -> npt.NDArray[np.float64]:
    """log10 of the amplitudes of [C, H, W], averaged over channels: [H, W], zero in the middle."""
    amplitudes = torch.fft.fft2(values.double(), norm="ortho").abs().mean(0)
    return np.asarray(torch.fft.fftshift(amplitudes).clamp_min(1e-30).log10().numpy())


def draw_spectra(columns: list[Column], radius: float, *, title: str) -> Figure:
    """Log spectra of the same, of a few images."""
    chosen = few(columns[0].values)
    figure, panels = grid(
        len(chosen),
        len(columns),
        f"{title}. Log spectra, the zero frequency in the middle; the circle is the radius.\n"
        f"Colours span {_DECADES:.0f} decades; image and inputs on scales of their own, the rest "
        "on that of the target, or of its removed frequencies.",
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
    chosen = few(images)
    figure, panels = grid(
        2 * len(chosen),
        len(kept) + 2,
        f"{title}: the input's band completed by the prediction, as the training goes on",
    )
    for half, (name, low) in enumerate((("low", True), ("high", False))):
        inputs = as_pixels(task, task.corrupt(images, torch.full((len(images),), low)))
        for place, image in enumerate(chosen):
            row = panels[2 * place + half]
            row[0].set_ylabel(f"{name}-pass", fontsize=8)
            show(row[0], inputs[image], inputs[image])
            for axis, values in zip(row[1:-1], kept.values(), strict=True):
                whole = completed(task, images, values[f"prediction_{name}"].float(), low=low)
                show(axis, as_pixels(task, whole)[image], target[image])
            show(row[-1], target[image], target[image])
    heads = [
        "input",
        *map(epoch_title, kept),
        "target",
    ]
    for axis, head in zip(panels[0], heads, strict=True):
        axis.set_title(head, fontsize=8, loc="center")
    return figure
