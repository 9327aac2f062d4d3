"""Channels of an experiment's images: the network made for them, and what is for RGB alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, LoaderName
from mfm.models.settings import IN_CHANNELS, Model
from mfm.training.settings import Training


def with_first_layer(values: Any) -> Any:
    """A configuration's plain values with a first layer for the dataset's channels."""
    channels = _at(values, "dataset", "channels")
    if not isinstance(channels, int) or channels == 3:
        return values
    model = values.get("model", {})
    options = _at(model, "options") or {}
    if not isinstance(model, dict) or not isinstance(options, dict):
        return values  # which is told where they are read
    return {**values, "model": {**model, "options": {IN_CHANNELS: channels, **options}}}


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def fault(
    channels: int,
    *,
    model: Model,
    loader: LoaderName,
    trainings: Mapping[str, Training],
    corruptions: Collection[str],
) -> str | None:
    """What doesn't go with images of so many channels, with its key.

    `trainings` are by their keys, `corruptions` the kinds that are evaluated.
    """
    if model.channels != channels:
        return f"model.options: '{IN_CHANNELS}' is set by dataset.channels"
    constants = ((IMAGENET_MEAN, "mean"), (IMAGENET_STD, "std"))
    for key, training in trainings.items():
        for default, name in constants:
            given = getattr(training, name, default)
            if given != default and len(given) != channels:
                return f"{key}.{name} has {len(given)} numbers, and images {channels} channels"
    if channels == 3:
        return None
    left_out = f", and dataset.channels is {channels}"
    if loader == "dali":
        return f"loader: dali is for RGB{left_out}: set it to torchvision"
    for key, training in trainings.items():
        if getattr(training, "randaugment", None) is not None:
            return f"{key}.randaugment changes the colours of RGB{left_out}: set it to null"
        if getattr(training, "rgb_alone", False):
            return f"{key}: task {getattr(training, 'task', '')} is for RGB{left_out}: take another"
    if "jpeg" in corruptions:
        return f"evaluate.corruptions.kinds: jpeg is for RGB{left_out}: leave it out"
    return None
