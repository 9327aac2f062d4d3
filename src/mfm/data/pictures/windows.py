"""Windows of values: which of them become 0 and 255, where pictures have more than 8 bits.

Measured on the training images alone, once, and the same for every split; the manifest keeps it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfm.data.pictures.arrays import Values
from mfm.data.pictures.contents import Place, opened, places
from mfm.data.pictures.formats import BROKEN, unreadable
from mfm.data.pictures.opening import check_finite, is_deep, open_picture
from mfm.data.pictures.reading import Reading, Window
from mfm.errors import UserError
from mfm.numerics.draws import Stream, permutation
from mfm.processes.pool import map_in_processes, stream_in_processes

PERCENTILES = (0.5, 99.5)
SAMPLED, VALUES = 2_000, 10_000  # training images, and pixels of each, that percentiles are of
_CHUNK = 16
Floats = npt.NDArray[np.float64]


class NothingMeasuredError(UserError):
    """Pictures of more than 8 bits, and none among the training images."""

    def __init__(self, message: str, modes: set[str]) -> None:
        super().__init__(message)
        self.modes = modes  # of those pictures


@dataclass(kw_only=True)
class Scaling:
    """What became of the values of more than 8 bits."""

    reading: Reading  # with its window
    images: int = 0  # that have such values
    values: Counter[str] = field(default_factory=Counter)  # by split
    outside: Counter[str] = field(default_factory=Counter)  # those that are cut off

    def summary(self) -> dict[str, Any]:
        """As plain JSON values; nothing where there are no such images."""
        if not self.images:
            return {}
        return {
            "scale": {
                "asked": self.reading.scale,
                "images": self.images,
                "window": self.reading.window,
                "outside": {name: self.outside[name] / self.values[name] for name in self.values},
            }
        }

    def notes(self) -> list[str]:
        """What to know of it."""
        if not self.images:
            asked = self.reading.scale is not None
            return ["dataset.scale changes nothing: no picture has more than 8 bits"] * asked
        told = ", ".join(
            f"{100 * self.outside[name] / self.values[name]:.3g}% of {name}'s values"
            for name in self.values
            if self.outside[name]
        )
        return [
            f"values of {self.images:,} images of more than 8 bits: {in_words(self.reading.window)}"
            f" become 0 to 255; {f'cut off: {told}' if told else 'none is cut off'}"
        ]


def in_words(window: Sequence[Sequence[float]] | None) -> str:
    """'0 to 4095', of the first and the last channel where each has a window of its own."""
    each = [f"{low:.6g} to {high:.6g}" for low, high in window or ()]
    if len(each) < 2:
        return "".join(each)
    return f"{each[0]} in the first of {len(each)} channels, {each[-1]} in the last"


def fault(reading: Reading, number: int, *, of: int, examples: Sequence[str]) -> list[str]:
    """Why pictures of more than 8 bits can't be used, where nothing says what becomes of them."""
    if not number or reading.takes_deep:
        return []
    return [
        f"{number:,} of {of:,} images have more than 8 bits a value, such as {', '.join(examples)},"
        " which would be clipped: set dataset.scale to range (0 to 255 from the lowest to the "
        f"highest value of the training images), to percentile (from their {PERCENTILES[0]:g}th to "
        f"their {PERCENTILES[1]:g}th), or to [low, high]"
    ]


def settle(reading: Reading, rows: pa.Table, folder: Path) -> Scaling:
    """The reading with its window, and what lies outside of it.

    `rows` are a scan's, of the images below `folder`. Raises UserError where there
    is nothing to measure, and for values that are no numbers.
    """
    rows = rows.filter(pa.array([is_deep(mode) for mode in rows["mode"].to_pylist()], pa.bool_()))
    if not len(rows):
        return Scaling(reading=reading)
    everything = places(folder, rows)
    if reading.window is None:
        reading = replace(reading, window=_window(reading, folder, rows))
    scaling = Scaling(reading=reading, images=len(rows))
    counts = stream_in_processes(
        partial(_outside, reading),
        everything,
        count=len(rows),
        title="count values",
        chunk=_CHUNK,
    )
    for split, (values, outside) in zip(rows["split"].to_pylist(), counts, strict=True):
        scaling.values[split] += values
        scaling.outside[split] += outside
    return scaling


def _window(reading: Reading, folder: Path, rows: pa.Table) -> Window:
    if isinstance(reading.scale, tuple):
        return (reading.scale,)
    train = places(folder, rows.filter(pc.equal(rows["split"], "train")))
    if not train:
        names = [repr(Path(path).name) for path in rows["path"].to_pylist()]
        raise NothingMeasuredError(
            f"{', '.join(names[:3])}{', ...' * (len(names) > 3)}: of more than 8 bits, and no "
            f"training image is, where '{reading.scale}' is measured: convert them to 8 bits, or "
            "give dataset.scale as [low, high]",
            modes=set(rows["mode"].to_pylist()),
        )
    if reading.scale == "percentile":
        chosen = np.sort(permutation(len(train), seed=0, epoch=0, stream=Stream.REPORT)[:SAMPLED])
        train = [train[place] for place in chosen.tolist()]
    parts = map_in_processes(
        partial(_measured, reading), train, title="measure values", chunk=_CHUNK
    )
    values = np.concatenate(parts)
    if reading.scale == "percentile":
        low, high = np.percentile(values, PERCENTILES, axis=0)
    else:
        low, high = values.min(axis=0), values.max(axis=0)
    if (low >= high).any():
        channel = int(np.argmax(low >= high))
        raise UserError(_equal(reading, channel, float(low[channel])))
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def _equal(reading: Reading, channel: int, value: float) -> str:
    """What to say where a window has no width."""
    of = f" in channel {channel} (from 0 on)" if reading.by_channel else ""
    if reading.scale == "range":
        return (
            f"dataset.scale is range, and the training images' values are all {value:g}{of}: give "
            "[low, high]"
        )
    low, high = PERCENTILES
    return (
        f"dataset.scale is percentile, and the {low:g}th and the {high:g}th percentile of the "
        f"training images' values are both {value:g}{of}: take range, or give [low, high]"
    )


def _measured(reading: Reading, place: Place) -> Floats:
    """Some of an image's values, or its lowest and highest: [n, windows]."""
    values = _values(reading, place)
    values = values.reshape(-1, values.shape[2] if reading.by_channel else 1)
    if reading.scale == "percentile":
        if len(values) > VALUES:
            values = values[np.random.default_rng(0).integers(len(values), size=VALUES)]
    else:
        values = np.stack([values.min(axis=0), values.max(axis=0)])
    return values.astype(np.float64)


def _outside(reading: Reading, place: Place) -> tuple[int, int]:
    """Numbers of an image's values, and of those outside of the window."""
    values = _values(reading, place)
    low, high = np.array(reading.window).T
    return values.size, int(((values < low) | (values > high)).sum())


def _values(reading: Reading, place: Place) -> Values:
    try:
        with opened(place) as file:
            values = open_picture(file, reading).values()
            check_finite(values)
            return values
    except (*BROKEN, ImportError) as error:
        named = place._replace(path=os.path.realpath(place.path)).name
        raise unreadable(named, error) from None
