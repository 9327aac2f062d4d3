"""Reading of image files: what becomes of their values, as settings and training images say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mfm.data.settings import Dataset, Scale

Window = tuple[tuple[float, float], ...]  # the values that become 0 and 255: one, or one a channel
KEY = b"reading"  # of a manifest, and of a scan
_VERSION = 2  # of what is found in a file's header


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a dataset's image files are read, and what a bad one does."""

    on_bad_image: Literal["error", "skip"] = "error"
    channels: int | None = None  # that every picture has; None: RGB, of what Pillow reads
    exif: Literal["ignore", "apply"] = "ignore"
    scale: Scale | None = None  # what is asked of values of more than 8 bits
    window: Window | None = None  # what follows from it

    @property
    def is_plain(self) -> bool:
        """Whether files are read as Pillow's RGB conversion gives them, of 8 bits all."""
        return self.channels is None and self.exif == "ignore" and self.window is None

    @property
    def out_channels(self) -> int:
        """Channels of an image in a batch."""
        return self.channels or 3

    @property
    def takes_deep(self) -> bool:
        """Whether it is said what becomes of values of more than 8 bits."""
        return self.scale is not None or self.window is not None

    @property
    def by_channel(self) -> bool:
        """Whether each channel has a window of its own; those of RGB share one, to keep colours."""
        return self.out_channels not in (1, 3)

    def of_headers(self) -> dict[bytes, bytes]:
        """What the facts of a file's header depend on, as a scan keeps it."""
        said = [_VERSION, self.channels, self.exif, self.takes_deep]
        return {KEY: json.dumps(said).encode()}

    def facts(self) -> dict[str, str]:
        """What whoever uses a model of such images has to know; nothing of plain ones."""
        windows = ", ".join(f"{low:.15g} to {high:.15g}" for low, high in self.window or ())
        said = [f"values from {windows} became 0 to 1"] if windows else []
        said += ["turned as EXIF asks for"] * (self.exif == "apply")
        return {"images_read": "; ".join(said)} if said else {}

    def metadata(self) -> dict[bytes, bytes]:
        """What a manifest says of it: nothing of plain images."""
        told: dict[str, Any] = {}
        if self.channels is not None:
            told["channels"] = self.channels
        if self.exif != "ignore":
            told["exif"] = self.exif
        if self.window is not None:
            told["window"] = self.window
        return {KEY: json.dumps(told).encode()} if told else {}


def of_manifest(metadata: Mapping[bytes, bytes] | None) -> Reading:
    """What `Reading.metadata` said."""
    told: dict[str, Any] = json.loads((metadata or {}).get(KEY, b"{}"))
    if "window" in told:
        told["window"] = tuple((low, high) for low, high in told["window"])
    return Reading(**told)


def reading_of(dataset: Dataset) -> Reading:
    """What a dataset's settings say."""
    return Reading(
        on_bad_image=dataset.on_bad_image,
        channels=dataset.channels,
        exif=dataset.exif,
        scale=dataset.scale,
    )
