"""Pictures of one pretraining: what its model makes of fixed images, at its end and on its way."""

from __future__ import annotations

import json
from pathlib import Path

from mfm.data.pictures.opening import shown_channels
from mfm.experiment.jobs import PretrainJob
from mfm.files import style
from mfm.files.atomic import write_text
from mfm.files.pickles import load_pickle
from mfm.objectives.picture_files import LIST
from mfm.objectives.pictures import fixed_images, load_snapshots
from mfm.processes.startup import importing


def draw_pictures(job: PretrainJob, *, manifest_path: Path, checkpoint: Path, folder: Path) -> None:
    """Leave FIGURE.png for each picture, and the list of captions, in `folder`.

    The model's final state is that of the checkpoint; earlier ones are the snapshots beside it.

    Raises UserError for a checkpoint or snapshots that don't fit.
    """
    training = job.training
    inputs = job.inputs(job.images(manifest_path))
    with importing():
        task = training.build(inputs)
    task.model.load_state_dict(load_pickle(checkpoint)["model"])
    images = fixed_images(training.pictured, manifest_path=manifest_path, size=job.size)
    kept = load_snapshots(checkpoint.parent)
    pictures = training.pictures(model=job.model, size=job.size).draw(
        task.model, images, kept, name=job.name
    )
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        style.save(picture.figure, folder / f"{picture.name}.png")
    shown = shown_channels(images.shape[1])
    captions = {picture.name: f"{picture.caption} {shown}".strip() for picture in pictures}
    write_text(folder / LIST, json.dumps(captions, indent=2) + "\n")
