"""Facts of a dataset: what is in it, and what may spoil a comparison on it.

Counts are of all images; what needs pixels is measured on a sample, drawn once and for all.
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import ExifTags, Image

from mfm.data import manifest
from mfm.data.batches import EvalBatches, to_float
from mfm.data.manifest import Images
from mfm.data.scan import LEFT_OUT
from mfm.experiment.jobs import DatasetReportJob
from mfm.numerics.draws import Ints, Stream, permutation
from mfm.objectives import Pretraining
from mfm.processes.pool import map_in_processes

SAMPLE = 512  # images
_AT_ONCE = 16
_LISTED = 10_000  # entries of a list in the JSON; its length is always told
_GROUPS, _IN_A_GROUP = 1000, 20
_SPLITS = ("train", "holdout", "val", "pretrain")
_ACROSS = (
    ("val", "train"),
    ("val", "holdout"),
    ("val", "pretrain"),
    ("holdout", "train"),
    ("holdout", "pretrain"),
    ("train", "pretrain"),
)
Report = dict[str, Any]
Values = npt.NDArray[np.float64]


def describe(run: DatasetReportJob, manifest_path: Path) -> Report:
    """Everything of the report, as plain JSON values.

    What each pretraining says of the sample of a split is in `sample[split]["pretrainings"][name]`:
    its `title`, the `size` of its images in pixels, its `constants` by name (texts), the `shares`
    by name (means over the images, in [0, 1]; None where no image has one) and a `note` on them. A
    pretraining that says nothing of images has no entry.

    Raises UserError for a sampled image that can't be read any more.
    """
    table = pq.read_table(manifest_path)
    splits = [name for name in _SPLITS if name in table["split"].unique().to_pylist()]
    return {
        "name": run.dataset.name,
        "source": run.dataset.source,
        "image_size": run.dataset.image_size,
        "on_bad_image": run.dataset.on_bad_image,
        "splits": {name: _split(table, name, run.dataset.image_size) for name in splits},
        "misnamed": _misnamed(table),
        "identical": _identical(table),
        "left_out": _left_out(manifest_path.parent / LEFT_OUT),
        "normalisations": _normalisations(run),
        "sample": {
            name: _sample(run, manifest.load(manifest_path, name))
            for name in splits
            if name in ("train", "pretrain")
        },
    }


def _split(table: pa.Table, name: str, image_size: int) -> Report:
    part = table.filter(pc.equal(table["split"], name))
    width, height = part["width"].to_numpy(), part["height"].to_numpy()
    found: Report = {
        "images": part.num_rows,
        "bytes": int(pc.sum(part["bytes"]).as_py()),
        "width": _spread(width),
        "height": _spread(height),
        "smaller": int((np.minimum(width, height) < image_size).sum()),
        "modes": _counts(part["mode"]),
        "formats": _counts(part["format"]),
    }
    if name != "pretrain":
        counts = _counts(part["class"])
        ordered = sorted(counts, key=lambda key: (counts[key], key))
        values = np.array(list(counts.values()))
        found["classes"] = {
            "number": len(counts),
            "per_class": _spread(values),
            "smallest": {key: counts[key] for key in ordered[:3]},
            "largest": {key: counts[key] for key in ordered[:-4:-1]},
            "largest_share": float(values.max() / values.sum()),
        }
    return found


def _spread(values: npt.NDArray[np.int64]) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.01, 0.5, 0.99])
    return {
        "min": int(values.min()),
        "1%": float(low),
        "median": float(middle),
        "99%": float(high),
        "max": int(values.max()),
    }


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = column.value_counts()
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _misnamed(table: pa.Table) -> Report:
    """Files whose content is of another format than their name says."""
    Image.init()
    suffixes = pc.utf8_lower(
        pc.struct_field(pc.extract_regex(table["path"], r"(?P<suffix>\.[^./]+)$"), "suffix")
    )
    pairs = pa.table({"suffix": suffixes, "format": table["format"]}).group_by(["suffix", "format"])
    wrong = np.zeros(table.num_rows, bool)
    for pair in pairs.aggregate([]).to_pylist():
        expected = Image.registered_extensions().get(pair["suffix"])
        if pair["format"] not in (expected, "MPO"):  # MPO: a JPEG with more pictures in it
            here = pc.and_(
                pc.equal(suffixes, pair["suffix"]), pc.equal(table["format"], pair["format"])
            )
            wrong |= here.to_numpy()
    return _list(table.filter(pa.array(wrong))["path"].to_pylist())


def _list(values: list[Any]) -> Report:
    return {"number": len(values), "listed": values[:_LISTED]}


def _identical(table: pa.Table) -> Report:
    """Files that are the same byte for byte, by their hashes."""
    contents, group, sizes = np.unique(
        table["content"].to_numpy(), return_inverse=True, return_counts=True
    )
    splits = table["split"].to_numpy(zero_copy_only=False)
    labels = table["label"].to_numpy()
    where = {name: np.flatnonzero(splits == name) for name in _SPLITS}
    train = group[where["train"]]
    pairs = np.unique(np.stack([train, labels[where["train"]]]), axis=1)
    several_classes = np.bincount(pairs[0], minlength=len(contents)) > 1
    order, ends = np.argsort(group, kind="stable"), np.cumsum(sizes)
    groups = []
    for number in np.flatnonzero(sizes > 1)[:_GROUPS]:
        rows = order[ends[number] - sizes[number] : ends[number]][:_IN_A_GROUP]
        groups.append(table["path"].take(pa.array(rows)).to_pylist())
    return {
        "groups": {"number": int((sizes > 1).sum()), "listed": groups},
        # Images less different images: what could be removed.
        "copies_in_train": len(train) - len(np.unique(train)),
        "contradicting_in_train": int(several_classes[train].sum()),
        "across": {
            f"{there} in {here}": int(np.isin(group[where[there]], group[where[here]]).sum())
            for there, here in _ACROSS
            if len(where[there]) and len(where[here])
        },
    }


def _left_out(path: Path) -> Report:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {"kinds": dict(Counter(row["kind"] for row in rows)), **_list(rows)}


def _normalisations(run: DatasetReportJob) -> Report:
    found: Report = {"finetune": {"mean": list(run.mean), "std": list(run.std)}}
    for name, training in run.pretrainings.items():
        mean, std = training.normalisation()
        found[f"pretrain.{name}"] = {"mean": list(mean), "std": list(std)}
    return found


def _sample(run: DatasetReportJob, images: Images) -> Report:
    """What a sample's pixels say, each image resized and cropped to the size it is trained at."""
    order = permutation(len(images), seed=0, epoch=0, stream=Stream.REPORT)
    chosen = images.take(np.sort(order[:SAMPLE]))
    parts = np.array_split(np.arange(len(chosen)), max(1, len(chosen) // _AT_ONCE))
    measured = map_in_processes(
        partial(_measure, run, chosen), parts, title="measure a sample", chunk=1
    )
    pixels = sum(part["pixels"] for part in measured)
    mean = sum(part["sum"] for part in measured) / pixels
    squares = sum(part["squares"] for part in measured) / pixels
    return {
        "images": len(chosen),
        "rotated_by_exif": sum(part["rotated"] for part in measured),
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(squares - mean**2, 0)).tolist(),
        "pretrainings": {
            name: _said(training, _size(run, training), [part["shares"][name] for part in measured])
            for name, training in run.pretrainings.items()
            if measured[0]["shares"][name]
        },
    }


def _size(run: DatasetReportJob, training: Pretraining) -> int:
    return training.crop.size or run.dataset.image_size


def _said(training: Pretraining, size: int, parts: list[dict[str, Values]]) -> Report:
    """What a pretraining says of images, from the shares of each part of them."""
    shares = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        "title": training.title,
        "size": size,
        "constants": training.sample_constants(size),
        "shares": {
            name: None if np.isnan(each).all() else float(np.nanmean(each))
            for name, each in shares.items()
        },
        "note": training.sample_note,
    }


def _measure(run: DatasetReportJob, images: Images, positions: Ints) -> dict[str, Any]:
    """Sums over the pixels of some images, and each image's shares: runs in a worker."""
    torch.set_num_threads(1)
    sizes = {_size(run, training) for training in run.pretrainings.values()}
    by_size = {size: _pixels(images, positions, size) for size in sizes | {run.dataset.image_size}}
    shares = {
        name: {
            what: share.numpy()
            for what, share in training.image_shares(by_size[_size(run, training)]).items()
        }
        for name, training in run.pretrainings.items()
    }
    pixels = by_size[run.dataset.image_size]
    rotated = 0
    for position in positions:
        with Image.open(images.path(int(position))) as image:
            rotated += image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return {
        "pixels": pixels[:, 0].numel(),
        "sum": pixels.sum(dim=(0, 2, 3)).numpy(),
        "squares": pixels.square().sum(dim=(0, 2, 3)).numpy(),
        "shares": shares,
        "rotated": rotated,
    }


def _pixels(images: Images, positions: Ints, size: int) -> torch.Tensor:
    """float64 [n, 3, size, size] in [0, 1]."""
    batches = EvalBatches(images, resize=size, crop=size, interpolation="bilinear")
    return to_float(batches.batch((0, positions)).images).double()
