"""Photographs to load: crops of scikit-learn's two sample images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from mfm.data.linking import manifest


def photographs() -> list[Image.Image]:
    """scikit-learn's two sample photographs, 640x427."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def write_photographs(folder: Path, count: int) -> None:
    """Distinct crops of the photographs, 500 pixels long, as JPEGs of ImageNet's file size."""
    draw = np.random.default_rng(0)
    sources = photographs()
    for i in tqdm(range(count), desc="write photographs", mininterval=5):
        source = sources[i % len(sources)]
        width = int(draw.integers(480, 601))
        height = int(width * draw.uniform(0.65, 0.75))
        left = int(draw.integers(0, source.width - width + 1))
        top = int(draw.integers(0, max(source.height - height, 0) + 1))
        image = source.crop((left, top, left + width, min(top + height, source.height)))
        image = image.resize((500, round(500 * image.height / image.width)))
        if i % 4 == 3:
            image = image.transpose(Image.Transpose.ROTATE_90)
        path = folder / "train" / f"class{i % 4}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=int(draw.integers(90, 97)))


def write_small(folder: Path, count: int) -> None:
    """Grey 28x28 cuts of the photographs, as the PNGs of the Fashion-MNIST export."""
    draw = np.random.default_rng(0)
    sources = [np.asarray(image.convert("L")) for image in photographs()]
    for i in tqdm(range(count), desc="write 28x28 PNGs", mininterval=5):
        source = sources[i % len(sources)]
        top, left = (int(draw.integers(0, side - 28)) for side in source.shape)
        path = folder / "train" / f"class{i % 10}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source[top : top + 28, left : left + 28]).save(path, compress_level=1)


def link(folder: Path) -> manifest.Images:
    """The folder's images; validation is a link to training."""
    (folder / "val").symlink_to("train")
    manifest.write(folder)
    return manifest.load(folder / "manifest.parquet", "train")
