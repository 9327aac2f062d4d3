"""Origin of weights: what is known of them beside their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm.models.trained_on import words_of_tag
from mfm.settings.section import PerChannel

Normalisation = tuple[PerChannel, PerChannel]  # mean and standard deviation of images in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a source says of weights; None where it says nothing."""

    backbone: str | None = None  # timm's name of the network
    trained_on: str | None = None  # 'ImageNet-1k labels'
    normalisation: Normalisation | None = None  # of the images they were trained on
    image_size: int | None = None  # side of those, in pixels
    revision: str | None = None  # commit of the repository that the file is from
    file: Path | None = None  # what was read, where it is fetched first

    def facts(self) -> dict[str, str]:
        """What is known, for a file's description of itself."""
        said = {
            "trained_on": self.trained_on,
            "normalisation": self.normalisation and in_words(self.normalisation),
            "image_size": self.image_size and str(self.image_size),
            "revision": self.revision,
        }
        return {key: value for key, value in said.items() if value}


def in_words(normalisation: Normalisation) -> str:
    """'mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]'."""
    mean, std = (list(each) for each in normalisation)
    return f"mean {mean}, std {std}"


def of_timm(described: Mapping[str, Any], *, backbone: str, **more: Any) -> Origin:
    """What timm's description of weights says, its own or that in a config.json."""
    tag, size = described.get("tag"), described.get("input_size")
    mean, std = (described.get(key) for key in ("mean", "std"))
    return Origin(
        backbone=backbone,
        trained_on=words_of_tag(tag, backbone=backbone) if tag else None,
        normalisation=(_triple(mean), _triple(std)) if mean and std else None,
        image_size=int(size[-1]) if size else None,
        **more,
    )


def _triple(values: Any) -> PerChannel:
    red, green, blue = (float(each) for each in values)
    return red, green, blue
