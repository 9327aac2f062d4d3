"""Facts of a dataset: what is in it, and what may spoil a comparison on it.

Counts are of all images; what needs pixels is measured on a sample, drawn once and for all.
"""

from __future__ import annotations

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

from mfm.data.folders import left_out, meaning
from mfm.data.folders.groups import number_of_groups
from mfm.data.linking import manifest
from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import EvalBatches, to_float
from mfm.data.loading.decoding import read
from mfm.data.pictures.formats import format_of
from mfm.data.pictures.opening import facts_of_pillow
from mfm.data.pictures.reading import of_manifest
from mfm.data.settings import Dataset
from mfm.experiment.jobs import DatasetReportJob
from mfm.numerics.draws import Ints, Stream, permutation
from mfm.numerics.pixels import per_channel
from mfm.objectives import Pretraining
from mfm.processes.pool import map_in_processes

SAMPLE = 512  # images
_AT_ONCE = 16
_LISTED = 10_000  # entries of a list in the JSON; its length is always told
_GROUPS, _IN_A_GROUP = 1000, 20
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
    found = facts(run.dataset, manifest_path)
    return {
        **found,
        "normalisations": _normalisations(run),
        "sample": {
            name: _sample(run, manifest.load(manifest_path, name))
            for name in found["splits"]
            if name in ("train", "pretrain")
        },
    }


def facts(dataset: Dataset, manifest_path: Path) -> Report:
    """What the manifest says, without opening an image."""
    table = pq.read_table(manifest_path)
    splits = [name for name in meaning.SPLITS if name in table["split"].unique().to_pylist()]
    return {
        "name": dataset.name,
        "source": dataset.source,
        "image_size": dataset.image_size,
        "on_bad_image": dataset.on_bad_image,
        **_reading(table),
        "splits": {name: _split(table, name, dataset.image_size) for name in splits},
        **_names(table),
        "identical": _identical(table),
        "left_out": _left_out(manifest_path.parent),
    }


def _reading(table: pa.Table) -> Report:
    """How files are read, where it isn't as Pillow reads them."""
    reading = of_manifest(table.schema.metadata)
    return {
        "channels": reading.out_channels,
        "exif": reading.exif,
        "window": reading.window and [list(each) for each in reading.window],
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
    if "group" in part.column_names:
        found["groups"] = number_of_groups(part["group"])
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


def _names(table: pa.Table) -> Report:
    """Files whose names promise another format than their content is of, or none."""
    found = pc.extract_regex(table["path"], r"(?P<suffix>\.[^./]+)$")
    suffixes = pc.fill_null(pc.utf8_lower(pc.struct_field(found, "suffix")), "")
    pairs = pa.table({"suffix": suffixes, "format": table["format"]}).group_by(["suffix", "format"])
    wrong, unsaid = np.zeros(table.num_rows, bool), np.zeros(table.num_rows, bool)
    for pair in pairs.aggregate([]).to_pylist():
        expected = format_of(f"x{pair['suffix']}")
        if pair["format"] not in (expected, "MPO"):  # MPO: a JPEG with more pictures in it
            here = pc.and_(
                pc.equal(suffixes, pair["suffix"]), pc.equal(table["format"], pair["format"])
            )
            of = wrong if expected else unsaid
            of |= here.to_numpy()
    return {
        name: _list(table.filter(pa.array(rows))["path"].to_pylist())
        for name, rows in (("misnamed", wrong), ("without_ending", unsaid))
    }


def _list(values: list[Any]) -> Report:
    return {"number": len(values), "listed": values[:_LISTED]}


def _identical(table: pa.Table) -> Report:
    """Files that are the same byte for byte, by their hashes."""
    contents, group, sizes = np.unique(
        table["content"].to_numpy(), return_inverse=True, return_counts=True
    )
    splits = table["split"].to_numpy(zero_copy_only=False)
    labels = table["label"].to_numpy()
    here = np.flatnonzero(splits == "train")
    train = group[here]
    pairs = np.unique(np.stack([train, labels[here]]), axis=1)
    several_classes = np.bincount(pairs[0], minlength=len(contents)) > 1
    first = here[np.isin(train, np.flatnonzero(several_classes)[:1])][:_IN_A_GROUP]
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
        "contradicting": table["path"].take(pa.array(first)).to_pylist(),  # of one content
        "across": meaning.overlap(table),
    }


def _left_out(folder: Path) -> Report:
    """Every file that is left out; bad images first, which are few."""
    rows = sorted(left_out.read(folder), key=lambda row: not left_out.is_bad(row["kind"]))
    return {"kinds": dict(Counter(row["kind"] for row in rows)), **_list(rows)}


def _normalisations(run: DatasetReportJob) -> Report:
    found: Report = {"finetune": {"mean": list(run.mean), "std": list(run.std)}}
    for name, training in run.pretrainings.items():
        mean, std = training.normalisation()
        found[f"pretrain.{name}"] = {"mean": list(mean), "std": list(std)}
    channels = run.dataset.channels or 3
    return {
        key: {name: list(per_channel(values, channels)) for name, values in constants.items()}
        for key, constants in found.items()
    }


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
        "of_several_pictures": sum(part["several"] for part in measured),
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
    several = 0
    for position in positions.tolist():
        orientation, pictures = facts_of_pillow(read(images, position))
        rotated += orientation != 1
        several += pictures > 1
    return {
        "pixels": pixels[:, 0].numel(),
        "sum": pixels.sum(dim=(0, 2, 3)).numpy(),
        "squares": pixels.square().sum(dim=(0, 2, 3)).numpy(),
        "shares": shares,
        "rotated": rotated,
        "several": several,
    }


def _pixels(images: Images, positions: Ints, size: int) -> torch.Tensor:
    """float64 [n, 3, size, size] in [0, 1]."""
    batches = EvalBatches(images, resize=size, crop=size, interpolation="bilinear")
    return to_float(batches.batch((0, positions)).images).double()
