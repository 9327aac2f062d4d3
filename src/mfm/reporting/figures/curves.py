"""Losses and accuracies over the epochs of pretrainings and finetunings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting.pretraining_losses import PREDICTED, TRAINING

_LINE = 0.18  # of a legend, inches
_MARKERS = "s^Dv"  # of the losses on fixed images
_WORDS = {"loss": "training loss", "top1": "top-1 in %"}
_SAYING = 50  # points of a curve that answer a pointer


def draw_pretraining(
    experiment: Experiment,
    metrics: Mapping[str, Sequence[pd.DataFrame]],
    losses: pd.DataFrame,
) -> Figure:
    """One panel for each pretraining: their losses are different quantities.

    `metrics` are the epochs of its runs, by the pretraining's name, and `losses` what is beside
    constant predictions, as `mfm.reporting.pretraining_losses` has it.
    """
    if not metrics:
        return style.nothing("No arm of this experiment is pretrained here.")
    measured = {name: losses[losses["pretraining"] == name] for name in metrics}
    alone = [
        len(runs[0]) == 1 and set(measured[name]["loss"]) <= {TRAINING}
        for name, runs in metrics.items()
    ]
    lines = [1 + 2 * each["loss"].nunique() for each in measured.values()]
    heights = [
        0.6 if single else 2.8 + _LINE * count for single, count in zip(alone, lines, strict=True)
    ]
    figure = Figure(figsize=(7.0, sum(heights)), layout="constrained")
    panels = figure.subplots(len(metrics), height_ratios=heights, squeeze=False)[:, 0]
    for axis, (name, runs), single in zip(panels, metrics.items(), alone, strict=True):
        training = experiment.pretrain[name]
        axis.set_title(f"{style.shown(name, 48)}: {training.title}")
        if single:
            axis.axis("off")
            told = ", ".join(f"{run['loss'].item():.4f}" for run in runs)
            text = f"loss {told}, the mean of the only epoch"
            for row in measured[name].drop_duplicates("loss").to_dict("records"):
                text += f"; {row['constant']:.4f} with {PREDICTED[row['predicted']]} for all images"
            axis.text(0, 0.9, text, va="top", color=style.GREY, transform=axis.transAxes)
        else:
            _losses(axis, runs, measured[name], texts=training.losses)
    return figure


def _losses(
    axis: Axes, runs: Sequence[pd.DataFrame], measured: pd.DataFrame, *, texts: Mapping[str, str]
) -> None:
    for number, epochs in enumerate(runs):
        (drawn,) = axis.plot(
            epochs["epoch"],
            epochs["loss"],
            color=style.OKABE_ITO[0],
            marker="o" if len(epochs) < 30 else None,
            label="_" if number else "training images, mean of the epoch",
        )
        style.mark(drawn, said=_said("training images, loss", epochs["epoch"], epochs["loss"]))
    for number, (loss, rows) in enumerate(measured.groupby("loss", sort=False)):
        training = loss == TRAINING
        colour = style.OKABE_ITO[0 if training else 1 + number % (len(style.OKABE_ITO) - 1)]
        what = "training images" if training else texts.get(str(loss), str(loss))
        of = f"fixed validation images, {what}"
        for place, (_, run) in enumerate(rows.groupby("seed") if not training else ()):
            (drawn,) = axis.plot(
                run["epoch"],
                run["value"],
                color=colour,
                marker=_MARKERS[number % len(_MARKERS)],
                ms=5,
                ls="--",
                label="_" if place else of,
            )
            style.mark(drawn, said=_said(of, run["epoch"], run["value"]))
        first = rows.iloc[0]
        said = f"{what}: {PREDICTED[first['predicted']]} for every image"
        drawn = axis.axhline(first["constant"], color=colour, lw=1, ls=":", label=said)
        style.mark(drawn, said=f"{said}, loss {first['constant']:.4g}")
    if not measured.empty:
        axis.set_yscale("log")  # the losses are of different sizes
        low, high = axis.get_ylim()
        few = high < 6 * low
        axis.yaxis.set_major_locator(MaxNLocator(5) if few else LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xlim(left=-0.02 * runs[0]["epoch"].max())
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss")
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    # Below: a loss may be anywhere.
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.2))


def draw_finetuning(
    experiment: Experiment,
    metrics: Mapping[str, list[pd.DataFrame]],
    curves: Mapping[str, list[pd.DataFrame]],
    *,
    images: int,
) -> Figure:
    """Training loss of each arm, and accuracy where it was measured on the way.

    `metrics` are the epochs of each seed, by arm; `curves` have the columns epoch and top1, and no
    rows where nothing was measured, on at most `images`, which is what the split has. Drawn are
    means over the seeds, and their range.
    """
    measured = any(len(curve) for of_arm in curves.values() for curve in of_arm)
    figure = Figure(figsize=(7.0, 6.0 if measured else 3.4), layout="constrained")
    panels = figure.subplots(1 + measured, sharex=True, squeeze=False)[:, 0]
    _band(panels[0], metrics, "loss")
    panels[0].set_ylabel(f"training loss ({experiment.finetune.loss})")
    panels[0].set_title("Mean over seeds; the bands reach from the lowest to the highest seed")
    style.legend(figure, panels[0])
    if measured:
        _band(panels[1], curves, "top1")
        seen = min(experiment.finetune.curve_images, images)
        panels[1].set_ylabel(f"top-1 of {seen} images (%)")
    panels[-1].set_xlabel("epoch of finetuning")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _band(axis: Axes, values: Mapping[str, list[pd.DataFrame]], column: str) -> None:
    for name, (colour, marker) in style.looks(list(values)).items():
        runs = [run for run in values[name] if len(run)]
        if not runs:
            continue
        heights = np.stack([run[column].to_numpy(float) for run in runs])
        epochs = runs[0]["epoch"].to_numpy()
        every = max(1, len(epochs) // 10)
        low, high, mean = heights.min(0), heights.max(0), heights.mean(0)
        band = axis.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
        style.mark(band, arm=name)
        (drawn,) = axis.plot(
            epochs,
            mean,
            color=colour,
            marker=marker,
            ms=5,
            markevery=every,
            label=style.label(name),
        )
        style.mark(drawn, arm=name, said=_said(f"{name}, mean {_WORDS[column]}", epochs, mean))
    axis.grid(axis="y")
    axis.set_axisbelow(True)


def _said(of: str, epochs: npt.ArrayLike, values: npt.ArrayLike) -> list[str]:
    """What the points of a curve say; of a long one, a few of them and its last."""
    points = list(zip(np.asarray(epochs, float), np.asarray(values, float), strict=True))
    every = -(-len(points) // _SAYING)
    return [
        f"{of}, epoch {epoch:g}: {value:.4g}" if left % every == 0 else ""
        for left, (epoch, value) in zip(reversed(range(len(points))), points, strict=True)
    ]
