"""Images/s of the loaders, and what training waits for them, in training's own environment:

    python -m mfm launch --standalone --nproc-per-node 1 -m benchmarks.loading

Photographs of about 500x375 pixels, from file to a normalised float batch of 224 px, by four ways
in turn within each round; then 28x28 PNGs to 32 px, the default experiment's case, and the share of
its training steps that is spent waiting for the loader, in two processes side by side.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy
from photographs import link, write_photographs, write_small
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from mfm.data.linking import manifest
from mfm.data.loading.batches import EvalBatches, TrainBatches, to_float
from mfm.data.loading.choice import create_loader
from mfm.data.loading.order import Plan
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, Crop, LoaderName, Seen
from mfm.experiment.jobs import PretrainJob
from mfm.models.settings import Model
from mfm.numerics import precision
from mfm.numerics.pixels import normalise
from mfm.objectives.mfm.settings import MfmPretraining
from mfm.training import optimizers

CPU = torch.device("cpu")
MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
_SKIPPED = 4
CROP = Crop(area=(0.2, 1.0), aspect=(0.75, 4 / 3), interpolation="bilinear")


def with_pil(folder: Path, *, batch: int, workers: int) -> Callable[[int], Iterator[torch.Tensor]]:
    """What users have today: ImageFolder, transforms on Pillow images, DataLoader."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224, scale=CROP.area, ratio=CROP.aspect),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        ImageFolder(str(folder / "train"), transform),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=4,
        drop_last=True,
    )
    return lambda epoch: (images for images, _ in loader)


def with_ours(
    kind: LoaderName, images: manifest.Images, *, batch: int, workers: int, size: int
) -> Callable[[int], Iterator[torch.Tensor]]:
    """This project's loaders."""
    loader = create_loader(
        kind, TrainBatches(images, crop=CROP, size=size, seed=0), workers=workers, device=CPU
    )
    plan = Plan(
        images=len(images), batch=batch, micro_batch=batch, seed=0, rank=0, world=1, pairs=False
    )

    def epoch_batches(epoch: int) -> Iterator[torch.Tensor]:
        for _, (one,) in loader.train(plan, epoch, 0):
            yield normalise(to_float(one.images), mean=MEAN, std=STD)

    return epoch_batches


def with_plain_dali(
    folder: Path, *, batch: int, workers: int
) -> Callable[[int], Iterator[torch.Tensor]]:
    """DALI's own reader, random crop and normalisation."""
    pipeline = Pipeline(batch_size=batch, num_threads=workers, device_id=None, seed=0)
    with pipeline:
        files, labels = fn.readers.file(
            file_root=str(folder / "train"), random_shuffle=True, name="reader"
        )
        image = fn.decoders.image_random_crop(
            files, device="cpu", random_area=CROP.area, random_aspect_ratio=CROP.aspect
        )
        image = fn.resize(image, size=[224, 224], interp_type=types.INTERP_LINEAR, antialias=True)
        image = fn.crop_mirror_normalize(
            image,
            mirror=fn.random.coin_flip(),
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
        )
        pipeline.set_outputs(image, labels)
    iterator = DALIGenericIterator(
        [pipeline],
        ["images", "labels"],
        reader_name="reader",
        last_batch_policy=LastBatchPolicy.DROP,
        auto_reset=True,
    )
    return lambda epoch: (one[0]["images"] for one in iterator)


def rates(ways: dict[str, Callable[[int], Iterator[torch.Tensor]]], rounds: int) -> None:
    """Print images/s of each way, all of them in turn in each round, after one unmeasured round."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, epoch_batches in ways.items():
            started, count = 0.0, 0
            for i, images in enumerate(epoch_batches(number)):
                # The first batches fill queues, or come from queues that were filled before.
                if i == _SKIPPED:
                    started = time.perf_counter()
                elif i > _SKIPPED:
                    count += len(images)
            if number:
                measured[name].append(count / (time.perf_counter() - started))
    first = next(iter(ways))
    for name, values in measured.items():
        ratios = [value / base for value, base in zip(values, measured[first], strict=True)]
        print(
            f"{name:36s} {median(values):8.0f} images/s (rounds {min(values):.0f} to "
            f"{max(values):.0f}), {median(ratios):.2f} x the first",
            flush=True,
        )


def decoding_rates(images: manifest.Images) -> None:
    """Milliseconds of one core for an image: training and evaluation, by each loader."""
    for title, batches in (
        ("crop to 224", TrainBatches(images, crop=CROP, size=224, seed=0)),
        (
            "resize 256, crop 224",
            EvalBatches(images, resize=256, crop=224, interpolation="bilinear"),
        ),
    ):
        for kind in ("torchvision", "dali"):
            loader = create_loader(kind, batches, workers=0, device=CPU)
            best = float("inf")
            for number in range(4):
                started = time.process_time()
                requests = [(number, part) for part in np.split(np.arange(128), 4)]
                for _ in loader.read(lambda requests=requests: requests):
                    pass
                best = min(best, (time.process_time() - started) / 128)
            print(f"{title:22s} {kind:12s} {1000 * best:.2f} ms of one core an image", flush=True)


def waiting(folder: Path) -> None:
    """One of two training processes: steps of the default pretraining, and what they waited."""
    torch.set_num_threads(1)
    images = manifest.load(folder / "manifest.parquet", "train")
    run = PretrainJob(
        name="mfm",
        dataset=Seen(name="fashion-mnist", image_size=32),
        split="train",
        model=Model(),
        training=MfmPretraining(task="mfm", recipe="paper", radius=3, batch=128, micro_batch=128),
    )
    task = run.training.build(run.inputs(images))
    model = task.model.to(memory_format=torch.channels_last)
    optimizer = optimizers.create_optimizer(model, run.training.optimizer)
    number_format = precision.resolve(run.training.precision, CPU)
    plan = Plan(
        images=len(images), batch=128, micro_batch=128, seed=0, rank=0, world=1, pairs=False
    )
    batches = TrainBatches(images, crop=run.training.crop, size=32, seed=0)
    loader = create_loader("torchvision", batches, workers=1, device=CPU)
    for epoch in range(2):
        waits, steps = [], []
        started = time.perf_counter()
        for step, (batch,) in loader.train(plan, epoch, 0):
            got = time.perf_counter()
            with precision.autocast(number_format, CPU):
                loss = task.objective(model, batch, step)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done = time.perf_counter()
            waits.append(got - started)
            steps.append(done - started)
            started = done
        # The first step of the first epoch also waits for the worker to start.
        print(
            f"epoch {epoch + 1}: {128 * (len(steps) - 1) / sum(steps[1:]):.0f} images/s, "
            f"{100 * sum(waits[1:]) / sum(steps[1:]):.2f}% of the steps' time waiting",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=1536)
    parser.add_argument("--small", type=int, default=12800)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--waiting", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.waiting:
        waiting(options.waiting)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photographs"
        write_photographs(folder, options.photographs)
        images = link(folder)
        size = sum(path.stat().st_size for path in (folder / "train").rglob("*.jpg"))
        print(f"{len(images)} JPEGs, {size / len(images) / 1000:.0f} kB each", flush=True)
        both = {"batch": 64, "workers": options.workers}
        rates(
            {
                "ImageFolder, Pillow, DataLoader": with_pil(folder, **both),
                "mfm, loader: torchvision": with_ours("torchvision", images, size=224, **both),
                "mfm, loader: dali": with_ours("dali", images, size=224, **both),
                "plain DALI": with_plain_dali(folder, **both),
            },
            options.rounds,
        )
        decoding_rates(images)
        if not options.small:
            return
        folder = Path(name) / "small"
        write_small(folder, options.small)
        images = link(folder)
        print(f"{len(images)} grey PNGs of 28x28, one worker")
        for kind in ("torchvision", "dali"):
            epoch_batches = with_ours(kind, images, batch=128, workers=1, size=32)
            for epoch, title in enumerate(("first epoch", "second", "third")):
                started = time.perf_counter()
                count = sum(len(one) for one in epoch_batches(epoch))
                rate = count / (time.perf_counter() - started)
                print(f"mfm, loader: {kind:12s} {title:12s} {rate:8.0f} images/s", flush=True)
        print("two pretrainings side by side, one worker each", flush=True)
        command = [sys.executable, __file__, "--waiting", str(folder)]
        for process in [subprocess.Popen(command) for _ in range(2)]:
            process.wait()


if __name__ == "__main__":
    main()
