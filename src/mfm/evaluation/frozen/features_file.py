"""Features file: Parquet, a row an image: split, position in it, path, label, class, features.

`features` are float32, as the network gave them, and for pixels uint8, as they were decoded: what
is read later is what was there, for half as much again over float16, which overflows at 65,504.
Written and read in row groups of one split, so that neither takes more memory for more images.

    table = pyarrow.parquet.read_table("results/features/mfm/seed0.parquet").to_pandas()
    train = table[table["split"] == "train"]
    features = numpy.stack(train["features"])  # [images, D]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mfm.data.linking.manifest import Images
from mfm.errors import UserError
from mfm.files.atomic import replacing
from mfm.numerics.draws import Ints

ROWS = 8192  # of a row group: 67 MB of 2,048 features
Matrix = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
_TYPES = {"float32": pa.float32(), "uint8": pa.uint8(), "int64": pa.int64()}


@dataclass(frozen=True, kw_only=True)
class Block:
    """Features of some images of one split."""

    positions: Ints  # [n] in the split, in manifest order
    labels: Ints  # [n]
    features: Matrix  # [n, D]


def write(
    path: Path, parts: Iterable[tuple[str, Images, Ints, Matrix]], facts: Mapping[str, str]
) -> None:
    """Write parts as they come: split, its images, and of some positions the features.

    `facts` are what the file says of itself, in its schema's metadata below 'mfm'.
    """
    said = {"mfm": json.dumps(dict(facts), sort_keys=True)}
    held: list[pa.Table] = []
    writer: pq.ParquetWriter | None = None
    last = ""
    with replacing(path) as temporary:
        try:
            for split, images, positions, features in parts:
                part = _table(split, images, positions, features).replace_schema_metadata(said)
                if writer is None:
                    few = ["split", "class"]  # different texts, which are written once
                    writer = pq.ParquetWriter(
                        temporary, part.schema, compression="zstd", use_dictionary=few
                    )
                if held and (split != last or sum(map(len, held)) + len(part) > ROWS):
                    writer.write_table(pa.concat_tables(held), row_group_size=ROWS)
                    held = []
                held.append(part)
                last = split
            assert writer is not None
            writer.write_table(pa.concat_tables(held), row_group_size=ROWS)
        finally:
            if writer is not None:
                writer.close()


def blocks(path: Path, split: str, positions: Ints | None = None) -> Iterator[Block]:
    """The features of a split's images, or of those at some positions: a row group at a time.

    Raises UserError for a file that lacks some of them.
    """
    found = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            few = file.read_row_group(group, columns=["split", "position", "label"])
            if few["split"][0].as_py() != split:
                continue
            places = _numbers(few["position"])
            keep = np.ones(len(places), bool) if positions is None else np.isin(places, positions)
            found += int(keep.sum())
            if keep.any():
                lists = file.read_row_group(group, columns=["features"])["features"]
                matrix = _numbers(lists.combine_chunks().flatten()).reshape(len(places), -1)
                yield Block(
                    positions=places[keep],
                    labels=_numbers(few["label"])[keep],
                    features=matrix if keep.all() else matrix[keep],
                )
    wanted = 1 if positions is None else len(positions)
    if found < wanted:
        raise UserError(
            f"{path} has the features of {found} of {wanted} images of split '{split}': raise "
            "frozen.extract_per_class"
        )


def take(path: Path, split: str, positions: Ints | None = None) -> Block:
    """The same at once."""
    return join(list(blocks(path, split, positions)))


def join(parts: list[Block]) -> Block:
    """Several blocks as one."""
    return Block(
        positions=np.concatenate([part.positions for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        features=np.concatenate([part.features for part in parts]),
    )


def _table(split: str, images: Images, positions: Ints, features: Matrix) -> pa.Table:
    names = np.array(images.classes, dtype=object)
    return pa.table(
        {
            "split": pa.array([split] * len(positions)),
            "position": _array(positions),
            "path": images.paths.take(_array(positions)),
            "label": _array(images.labels[positions]),
            "class": pa.array(names[images.labels[positions]].tolist()),
            "features": pa.FixedSizeListArray.from_arrays(
                _array(features.reshape(-1)), features.shape[1]
            ),
        }
    )


# As in mfm.data.linking.manifest: what takes or gives numpy's arrays imports pandas, which takes
# time.
def _array(values: npt.NDArray[np.int64] | Matrix) -> pa.Array:
    whole = np.ascontiguousarray(values)
    buffers = [None, pa.py_buffer(whole)]
    return pa.Array.from_buffers(_TYPES[whole.dtype.name], len(whole), buffers)


def _numbers(column: pa.ChunkedArray | pa.Array) -> Any:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return np.from_dlpack(column)
