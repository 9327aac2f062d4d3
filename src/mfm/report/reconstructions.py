"""A grid of what a masked-frequency model sees, predicts, and should predict."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from mfm import config
from mfm.atomic import replacing
from mfm.checkpoint import load_pickle
from mfm.data import manifest
from mfm.data.loader import EvalBatches, to_float
from mfm.pretrain import create_reconstruction_model, create_task, crop_size


def draw(run: config.PretrainRun, *, manifest_path: Path, checkpoint: Path, figure: Path) -> None:
    """For fixed validation images: the image, both inputs with their predictions, the target."""
    training = run.training
    assert isinstance(training, config.MfmPretraining)
    task = create_task(run)
    model = create_reconstruction_model(run)
    model.load_state_dict(load_pickle(checkpoint)["model"])
    model.eval()
    images = manifest.load(manifest_path, "val")
    # Evenly spread over the manifest, which is sorted by class.
    chosen = np.linspace(0, len(images) - 1, min(training.reconstructions, len(images)))
    size = crop_size(run)
    batch = EvalBatches(images, resize=size, crop=size, interpolation="bilinear").batch(
        (0, np.unique(chosen.astype(np.int64)))
    )
    pixels = to_float(batch.images)
    columns: list[tuple[str, Tensor]] = [("image", pixels)]
    with torch.inference_mode():
        for name, low in (("low-pass", True), ("high-pass", False)):
            keep_low = torch.full((len(pixels),), low)
            inputs = task.corrupt(pixels, keep_low)
            columns += [(f"{name} input", inputs), (f"prediction from {name}", model(inputs))]
        columns.append(("target", task.target(pixels)))
    _draw_grid(columns, figure, title=f"{run.name}: recipe {task.recipe}, radius {task.radius:.3g}")


def _draw_grid(columns: list[tuple[str, Tensor]], path: Path, *, title: str) -> None:
    rows = len(columns[0][1])
    figure, axes = plt.subplots(
        rows,
        len(columns),
        figsize=(1.5 * len(columns), 1.5 * rows + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for column, (name, values) in enumerate(columns):
        axes[0, column].set_title(name, fontsize=8)
        for row in range(rows):
            axis = axes[row, column]
            axis.axis("off")
            pixels = values[row].permute(1, 2, 0).squeeze(-1).numpy()
            low, high = (0.0, 1.0) if name == "image" else (pixels.min(), pixels.max())
            shown = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1)
            axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    figure.suptitle(f"{title}. Each panel but the first is scaled to its own range.", fontsize=9)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)
