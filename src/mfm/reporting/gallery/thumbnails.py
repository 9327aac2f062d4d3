"""Thumbnails of images, small enough to stand in a page, from the files of a linked dataset."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfm.data.linking import manifest
from mfm.data.linking.manifest import Images
from mfm.data.loading import decoding
from mfm.data.pictures.headers import content_of
from mfm.data.pictures.opening import as_rgb
from mfm.errors import UserError

SIDE = 96  # pixels of the longer side, at most
_LOSSLESS = 48  # up to so many pixels a side, PNG takes no more than JPEG does
_QUALITY = 85
GONE, CHANGED, UNREADABLE = "it is gone", "it has changed since", "it can't be read"


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image in a page, or why there is none."""

    source: str = ""  # an address: data:...
    width: int = 0
    height: int = 0
    missing: str = ""


class Thumbnails:
    """The images of one split, as they were when the dataset was linked."""

    def __init__(self, path: Path, split: str) -> None:
        self._images: Images = manifest.load(path, split)
        self._contents = pq.read_table(path, columns=["content"])["content"]
        self._known: dict[str, Thumbnail] = {}

    @property
    def root(self) -> Path:
        """The folder that paths are below."""
        return self._images.root

    def __getitem__(self, path: str) -> Thumbnail:
        if path not in self._known:
            self._known[path] = self._made(path)
        return self._known[path]

    def _made(self, path: str) -> Thumbnail:
        position = pc.index(self._images.paths, pa.scalar(path)).as_py()
        if position < 0:
            return Thumbnail(missing=CHANGED)  # linked again, without it
        try:
            file = decoding.read(self._images, position)
        except UserError:
            return Thumbnail(missing=GONE)
        if content_of(file) != self._contents[int(self._images.rows[position])].as_py():
            return Thumbnail(missing=CHANGED)
        try:
            image = as_rgb(decoding.decode(self._images, position, file))
        except UserError:
            return Thumbnail(missing=UNREADABLE)
        small = max(image.size) <= _LOSSLESS
        image.thumbnail((SIDE, SIDE))
        written = io.BytesIO()
        if small:
            image.save(written, "PNG", optimize=True)
        else:
            image.save(written, "JPEG", quality=_QUALITY)
        kind = "png" if small else "jpeg"
        encoded = base64.b64encode(written.getvalue()).decode()
        return Thumbnail(
            source=f"data:image/{kind};base64,{encoded}", width=image.width, height=image.height
        )
