"""Metadata of weight files: what one of this package says of itself. Readable without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors

_KEY = "mfm"


def to_header(metadata: Mapping[str, str]) -> dict[str, str]:
    """The header that `read_metadata` finds.

    One entry: safetensors writes several in an order that changes from run to run, and equal runs
    shall leave equal files.
    """
    return {_KEY: json.dumps(dict(metadata), sort_keys=True)}


def read_metadata(path: Path) -> dict[str, str] | None:
    """What a .safetensors file says of itself; None for one that this package did not save."""
    with safetensors.safe_open(path, framework="np") as file:
        described = (file.metadata() or {}).get(_KEY)
    metadata: dict[str, str] | None = None if described is None else json.loads(described)
    return metadata
