"""A network's way through this package: pretraining, finetuning, evaluation, export, timm.

    python journey.py BACKBONE:PIXELS [TASK ...]

goes it once with a network of full size, and prints what came of it.
"""

import csv
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from mfm.data.linking import manifest
from mfm.data.settings import Seen
from mfm.data.sources.fashion_mnist import write_pngs
from mfm.errors import UserError
from mfm.evaluation import run as evaluation
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.settings import Classification
from mfm.experiment.jobs import FinetuneJob, PretrainJob
from mfm.models.settings import Model
from mfm.models.weights import load_weights
from mfm.objectives import Pretraining
from mfm.processes.ranks import Process
from mfm.reporting.export import export
from mfm.settings.section import dumps, parse
from mfm.training import run as training
from mfm.training.operation import Operation

ALONE = Process(rank=0, world=1, device=torch.device("cpu"))
CLASSES = 2
BATCH = 4


def tasks():
    """Names of all registered pretraining tasks."""
    return list(TypeAdapter(Pretraining).json_schema()["discriminator"]["mapping"])


def write_images(folder, size):
    """A manifest of one step's random images, and as many to evaluate on."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(CLASSES):
            paths = [folder / split / str(label) / f"{k}.png" for k in range(BATCH // CLASSES)]
            pixels = random.integers(0, 256, (len(paths), size, size, 3), dtype=np.uint8)
            write_pngs(paths, list(pixels), title=split)
    manifest.write(folder)
    return folder / manifest.NAME


class Journey:
    """One network's, in a results folder of its own."""

    def __init__(self, model, *, size, images, folder):
        self.images, self.folder, self.size = images, folder, size
        self.common = {"dataset": Seen(name="d", image_size=size), "model": model}
        self.recipe = {"batch": BATCH, "micro_batch": BATCH, "epochs": 1}

    def pretrain(self, task):
        """One step; the backbone's weights."""
        values = {"name": task, "training": {"task": task, **self.recipe}, "split": "train"}
        job = parse(PretrainJob, {**self.common, **values}, where="test")
        return self._train(job, "scratch", self.folder / f"pretrain/{task}/seed0")

    def finetune(self, weights, name):
        """One step with layer decay and drop path; the classifier's weights."""
        recipe = {"drop_path": 0.2, "optimizer": {"layer_decay": 0.7, "decay": "matrices"}}
        values = {
            "arm": name,
            "source": {"pretrain": name},
            "seed": 0,
            "curve": "val",
            "training": {**self.recipe, **recipe},
        }
        self.finetuning = parse(FinetuneJob, {**self.common, **values}, where="test")
        return self._train(self.finetuning, str(weights), self.folder / f"finetune/{name}/seed0")

    def evaluate(self, weights):
        """The row of results.csv."""
        row = weights.parent / "row.csv"
        job = EvaluateJob(
            **self.common,
            mean=self.finetuning.training.mean,
            std=self.finetuning.training.std,
            evaluation=Classification(resize=self.size, crop=self.size, batch=BATCH),
        )
        evaluation.run(
            job,
            manifest_path=self.images,
            weights=weights,
            pretraining=None,
            row=row,
            predictions=weights.parent / "predictions.parquet",
            process=ALONE,
            workers=0,
        )
        with open(row) as file:
            return next(csv.DictReader(file))

    def reload(self, weights):
        """Logits of the classifier here, and of what the exported card's lines make."""
        out = weights.parent / "exported"
        export(weights, out, target="timm")
        card = (out / "README.md").read_text()
        code = card.split("```python\n")[1].split("```")[0]
        names = {}
        exec(code.replace("'model.safetensors'", repr(str(out / "model.safetensors"))), names)
        inputs = self.finetuning.inputs_of(classes=CLASSES, rows=None)
        ours = self.finetuning.training.build(inputs).model
        load_weights(ours, weights)
        images = torch.randn(2, 3, self.size, self.size)
        with torch.inference_mode():
            return ours.eval()(images), names["model"].eval()(images)

    def _train(self, job, weights, run):
        run.mkdir(parents=True)
        (run / "config.json").write_text(dumps(job))
        training.run(
            job,
            config=run / "config.json",
            weights=weights,
            manifest_path=self.images,
            operation=Operation(run=run, workers=0, checkpoint_epochs=1),
            process=ALONE,
        )
        return run / job.weights_file


def main():
    name, size = sys.argv[1].split(":")
    torch.set_num_threads(1)
    for task in sys.argv[2:] or tasks():
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            images = write_images(Path(folder) / "data", int(size))
            journey = Journey(
                Model(backbone=name), size=int(size), images=images, folder=Path(folder)
            )
            try:
                weights = journey.finetune(journey.pretrain(task), task)
                journey.evaluate(weights)
                ours, theirs = journey.reload(weights)
                told = "same logits" if torch.equal(ours, theirs) else "OTHER LOGITS"
            except UserError as error:
                told = f"refused: {error}"
        seconds = time.monotonic() - started
        print(f"RESULT {name} {size} px {task}: {told}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
