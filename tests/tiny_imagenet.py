"""`python tests/tiny_imagenet.py FOLDER`: a tree like ImageNet's, of a few drawn photographs.

5 classes named by WordNet ids, JPEGs of about ImageNet's sizes, of each 2 for training and 2 for
validation.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = [f"n{number:08d}" for number in range(1440764, 1440769)]
SIZES = [(500, 375), (375, 500), (500, 333), (320, 240)]


def write_tree(root: Path) -> Path:
    """FOLDER/{train,val}/<wnid>/*.JPEG; returns FOLDER."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for wnid in WNIDS:
            folder = root / split / wnid
            folder.mkdir(parents=True)
            for number in range(2):
                image = photograph(draw, SIZES[draw.integers(len(SIZES))])
                image.save(folder / f"{wnid}_{number}.JPEG", quality=90)
    return root


def photograph(draw: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Smooth shapes with some grain: energy at all frequencies, falling as in photographs."""
    layers = [
        np.asarray(
            Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            ),
            np.float64,
        )
        / side
        for side in (4, 16, 64)
    ]
    mixed = sum(layers)
    return Image.fromarray((255 * (mixed / mixed.max())).astype(np.uint8))


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]))
