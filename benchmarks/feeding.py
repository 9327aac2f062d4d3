"""A GPU's training step by step from files: does it wait for the loader?

    python benchmarks/feeding.py

Photographs of about 500x375 pixels (benchmarks/photographs.py), MFM pretraining of a network at 224
px: images/s of the step on random images, of each loader alone, and of whole epochs of a training
that reads by it. Epochs begin with empty queues, as in a run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from case import ALONE, DEVICE, Case, settings
from photographs import link, write_photographs
from sides import machine, table

from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import TrainBatches
from mfm.data.loading.choice import create_loader
from mfm.data.loading.loader import Loader
from mfm.data.loading.order import Plan
from mfm.errors import UserError
from mfm.models.settings import Model
from mfm.training.loop import Trainer
from mfm.training.operation import Operation
from mfm.training.settings import Training

SIZE = 224


def many(folder: Path, *, photographs: int, copies: int) -> Images:
    """Photographs, each under several names: what counts is that each name is read and decoded."""
    write_photographs(folder, photographs)
    for path in sorted((folder / "train").rglob("*.jpg")):
        for number in range(1, copies):
            os.link(path, path.with_stem(f"{path.stem}-{number}"))
    return link(folder)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def rate_of_steps(case: Case, *, steps: int, batch: int) -> float:
    """Images/s of the step on random images."""
    for _ in range(8):
        case.step()
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        case.step()
    wait()
    return steps * batch / (time.perf_counter() - started)


def rate_of_loader(loader: Loader, plan: Plan) -> float:
    """Images/s of a whole epoch that nothing is done with, after one that starts the workers."""
    for epoch in range(2):
        started = time.perf_counter()
        for _ in loader.train(plan, epoch, 0):
            pass
        wait()
    return plan.steps_per_epoch * plan.batch / (time.perf_counter() - started)


def rate_of_run(case: Case, training: Training, images: Images, loader: Loader) -> list[float]:
    """Images/s of each epoch but the first of a training, as its metrics say."""
    trainer = case.trainer
    plan = replace(trainer.plan, images=len(images))
    inputs = case.inputs(images.rows)
    with tempfile.TemporaryDirectory() as run, redirect_stdout(io.StringIO()):
        fed = Trainer(
            replace(
                trainer.setup, task=training.build(inputs), images=images, loader=loader, plan=plan
            ),
            operation=Operation(run=Path(run), workers=0, checkpoint_epochs=training.epochs),
            process=ALONE,
        )
        rows = fed.train()
    return [row.images_per_second for row in rows[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50", help="timm model (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--photographs", type=int, default=1024)
    parser.add_argument("--copies", type=int, default=16, help="names of each")
    parser.add_argument("--epochs", type=int, default=3, help="the first one isn't counted")
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 1) - 1, 1))
    parser.add_argument("--loaders", nargs="+", default=["torchvision", "dali"])
    parser.add_argument("--json", type=Path, help="file for what was measured")
    options = parser.parse_args()
    print(machine(torch.get_num_threads()), flush=True)
    model = Model(backbone=options.backbone)
    training = settings(
        "mfm", epochs=options.epochs, batch=options.batch, micro_batch=options.batch, clip=3.0
    )
    case = Case(training, model, size=SIZE, classes=0)
    step = rate_of_steps(case, steps=30, batch=options.batch)
    print(f"step on random images: {step:.0f} images/s", flush=True)
    told: dict[str, object] = {"machine": machine(torch.get_num_threads()), "step": step}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        images = many(Path(name), photographs=options.photographs, copies=options.copies)
        batches = TrainBatches(images, crop=training.crop, size=SIZE, seed=0)
        for kind in options.loaders:
            try:
                loader = create_loader(kind, batches, workers=options.workers, device=DEVICE)
            except UserError as error:
                print(f"not measured: {error}", flush=True)
                continue
            alone = rate_of_loader(loader, replace(case.trainer.plan, images=len(images)))
            fed = rate_of_run(case, training, images, loader)
            told[kind] = {"alone": alone, "fed": fed}
            rows.append([kind, f"{alone:.0f}", f"{median(fed):.0f}", f"{median(fed) / step:.2f}"])
            print(f"{kind}: alone {alone:.0f}, fed {fed}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(told, indent=1))
            loader.close()
    print(f"{options.backbone} at {SIZE} px, batch {options.batch}, {options.workers} workers")
    print(table(["loader", "alone, images/s", "step fed by it", "of the step alone"], rows))


if __name__ == "__main__":
    main()
