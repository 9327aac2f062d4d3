"""Trainings of two gloo ranks, and of one process: `python two_ranks.py RANK STORE OUT`.

OUT gets, of each backbone and task, what the ranks have and one process has not; and whether
torch's compiler was imported.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from backbones import KINDS, SIZE, SMALL

from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Plan
from mfm.objectives import Pretraining
from mfm.processes.ranks import Process
from mfm.settings.section import Section, parse
from mfm.training.loop import Setup, Trainer
from mfm.training.operation import Operation
from mfm.training.task import Inputs

PAIRS = [(name, task) for name in KINDS for task in ("mfm", "supervised", "simmim")]
PAIRS.append(("vit_tiny", "mae"))
# Compares all images of a step, so one process can't see them in the ranks' parts: no batch norm.
PAIRS += [(name, "simclr") for name in KINDS if not name.startswith("resnet")]
RECIPES = {
    "simclr": {"micro_batch": 8, "projection_batchnorm": False, "temperature": 0.5, "jitter": 1}
}
IMAGES, CLASSES = 16, 3
SGD = {"name": "sgd", "lr": 0.1, "lr_batch": 8, "weight_decay": 0.1}
# What is known of images that no file is of: that they are RGB.
NONE = {"root": Path(), "classes": (), "paths": pa.array([], pa.string())}
NONE |= dict.fromkeys(("rows", "labels", "widths", "heights"), np.zeros(0, np.int64))
COMMON = {"batch": 8, "micro_batch": 4, "precision": "fp32", "optimizer": SGD}


class Settings(Section):
    """Of a pretraining."""

    training: Pretraining


class Loader:
    """The same random images for all."""

    def __init__(self):
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
        self.images = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def train(self, plan, epoch, first_step):
        for step in plan.epoch(epoch, first_step=first_step):
            chosen = map(torch.from_numpy, step.micro_batches)
            yield step, [Batch(self.images[k], k % CLASSES, k) for k in chosen]


def setup_of(model, training, *, rank, world):
    """A training on the random images, two steps an epoch."""
    inputs = Inputs(model=model, size=SIZE, classes=CLASSES, rows=np.arange(IMAGES), seed=1)
    task = training.build(inputs)
    return Setup(
        task=task,
        images=Images(**NONE),
        size=SIZE,
        loader=Loader(),
        plan=Plan(
            images=IMAGES,
            batch=8,
            micro_batch=training.micro_batch,
            seed=1,
            rank=rank,
            world=world,
            pairs=False,
            views=training.views,
        ),
        training=training.model_copy(update={"ranks": world}),
        identity={"seed": 1},
    )


def trained(model, training, *, rank, world, folder):
    """A network after two steps: its first and its last parameters, and the loss."""
    setup = setup_of(model, training, rank=rank, world=world)
    network = setup.task.model
    first = {name: p.detach().clone() for name, p in network.named_parameters()}
    trainer = Trainer(
        setup,
        operation=Operation(run=folder, workers=0, checkpoint_epochs=1),
        process=Process(rank=rank, world=world, device=torch.device("cpu")),
    )
    loss = trainer.train()[0].loss
    return first, dict(network.named_parameters()), loss


def compare(name, task, *, rank, folder):
    """What two ranks have and one process, which accumulates, has not; None on the other rank."""
    recipe = {"task": task, **COMMON, **RECIPES.get(task, {})}
    training = parse(Settings, {"training": recipe}, where="test").training
    _, two, loss = trained(SMALL[name], training, rank=rank, world=2, folder=folder / "two")
    if rank:
        return None
    first, one, other = trained(SMALL[name], training, rank=0, world=1, folder=folder / "one")
    scale = max((one[key] - first[key]).abs().max() for key in one)
    return {
        "step": scale.item(),
        "difference": max((one[key] - two[key]).abs().max().item() for key in one),
        "losses": [loss, other],
        "kept": [
            [key for key in each if torch.equal(each[key], first[key])] for each in (one, two)
        ],
    }


def main():
    rank, store, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {
        f"{name} {task}": compare(name, task, rank=rank, folder=out.parent / f"{name}-{task}")
        for name, task in PAIRS
    }
    found["compiler"] = "torch._dynamo" in sys.modules
    if rank == 0:
        out.write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
