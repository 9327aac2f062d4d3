"""Tiny drawn images, for the workflow's own tests: no download, learnable in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mfm.data.sources.fashion_mnist import write_pngs
from mfm.numerics.draws import Stream, uniforms

CLASSES = ("checks", "discs", "rings", "stripes")
_SIZE = 40
PER_CLASS = {"train": 32, "val": 12}


def export(folder: Path) -> None:
    """Write 4 classes of 40x40 RGB PNGs: 32 for training and 12 for validation each."""
    for split_number, (split, count) in enumerate(PER_CLASS.items()):
        for label, name in enumerate(CLASSES):
            draws = uniforms(
                seed=split_number,
                epoch=label,
                stream=Stream.AUGMENT,
                indices=np.arange(count),
                n=16,
            )
            paths = [folder / split / name / f"{number:03d}.png" for number in range(count)]
            write_pngs(paths, [_draw(label, row) for row in draws], title=f"{split}/{name}")


def _draw(label: int, draws: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """One pattern of random scale, position, angle and colours: uint8 [40, 40, 3]."""
    y, x = np.mgrid[:_SIZE, :_SIZE] / _SIZE - (0.3 + 0.4 * draws[:2])[:, None, None]
    angle = draws[2] * np.pi
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = 3 + 5 * draws[3]
    radius = np.hypot(x, y)
    pattern = (
        np.sign(np.sin(2 * np.pi * waves * u) * np.sin(2 * np.pi * waves * v)),
        np.sign(0.12 + 0.2 * draws[4] - radius),
        np.sign(np.sin(2 * np.pi * waves * radius)),
        np.sign(np.sin(2 * np.pi * waves * u)),
    )[label]
    inside = (pattern > 0)[..., None]
    colours = draws[5:11].reshape(2, 3) * 255
    noise = 12 * np.sin(97 * (x + 3 * y + draws[11]))[..., None]
    drawn: npt.NDArray[np.uint8] = np.clip(
        np.where(inside, colours[0], colours[1]) + noise, 0, 255
    ).astype(np.uint8)
    return drawn
