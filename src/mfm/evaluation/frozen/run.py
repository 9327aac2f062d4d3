"""Run of one kind of frozen features: its job and features files in, a CSV of accuracies out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mfm.data.linking import manifest
from mfm.data.linking.manifest import Images
from mfm.data.linking.selection import labelled_positions
from mfm.evaluation.frozen import features_file
from mfm.evaluation.frozen.features_file import Block
from mfm.evaluation.frozen.probes import logistic, nearest
from mfm.evaluation.frozen.settings import LOGISTIC, Amount, ProbeJob
from mfm.files.atomic import write_csv
from mfm.numerics.draws import Ints

COLUMNS = ("features", "seed", "amount", "images", "method", "C", "top1")


def run(job: ProbeJob, *, manifest_path: Path, files: Sequence[Path], csv: Path) -> None:
    """Leave a row for each seed, amount of labelled images and method; `files` are by seed."""
    images = manifest.load(manifest_path, "train")
    starts = dict(zip(job.seeds, files, strict=True))
    rows: list[dict[str, object]] = []
    for file in dict.fromkeys(files):
        evaluated = features_file.take(file, job.split)
        for seed in (seed for seed, its in starts.items() if its == file):
            for amount in job.amounts:
                positions = _labelled(images, amount, seed)
                groups = None if images.groups is None else images.groups[positions]
                for found in _read(job, file, positions, evaluated, groups=groups, seed=seed):
                    said = {"amount": amount.name, "images": len(positions)}
                    rows.append({"features": job.features, "seed": seed, **said, **found})
                    print(
                        ", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True
                    )
    order = {seed: number for number, seed in enumerate(job.seeds)}
    rows.sort(key=lambda row: order[int(str(row["seed"]))])
    write_csv(csv, rows, COLUMNS)


def _labelled(images: Images, amount: Amount, seed: int) -> Ints:
    return labelled_positions(
        images.labels, images.classes, amount.images_per_class, fraction=amount.fraction, seed=seed
    )


def _read(
    job: ProbeJob,
    file: Path,
    positions: Ints,
    evaluated: Block,
    *,
    groups: Ints | None,
    seed: int,
) -> Iterator[dict[str, object]]:
    """What each method reads with the labels of the images at `positions`."""

    def top1(predictions: Ints) -> float:
        return round(100 * float((predictions == evaluated.labels).mean()), 4)

    # Neighbours are found a block after the other; only a fit needs all features at once.
    labelled = features_file.blocks(file, "train", positions)
    if job.logistic_up_to is None or len(positions) <= job.logistic_up_to:
        whole = features_file.join(list(labelled))
        found = logistic(whole.features, whole.labels, evaluated.features, groups=groups, seed=seed)
        chosen = f"{found.inverse_penalty:g}"
        yield {"method": LOGISTIC, "C": chosen, "top1": top1(found.predictions)}
        labelled = iter([whole])
    near = nearest(labelled, evaluated.features, neighbours=job.knn)
    for neighbours, predictions in near.items():
        yield {"method": f"knn{neighbours}", "C": "", "top1": top1(predictions)}
