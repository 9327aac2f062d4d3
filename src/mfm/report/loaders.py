"""Whether the arms of a comparison saw their images through the same loader."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from safetensors import SafetensorError

from mfm.weights_metadata import read_metadata


def loader_warnings(results: pd.DataFrame) -> list[str]:
    """A line of Markdown if arms were trained through different loaders, else none.

    From what each finetuned model says of itself; one that was moved or damaged says nothing.
    """
    used: dict[str, set[str]] = {}
    for init, checkpoint in zip(results["init"], results["checkpoint"], strict=True):
        metadata = _metadata(Path(checkpoint))
        for stage, key in (("pretraining", "initial_loader"), ("finetuning", "loader")):
            loader = metadata.get(key, "-")
            if loader != "-":
                used.setdefault(loader, set()).add(f"{stage} of {init}")
    if len(used) < 2:
        return []
    listed = "; ".join(f"{loader}: {', '.join(sorted(used[loader]))}" for loader in sorted(used))
    return [
        f"- **Warning: arms saw their images through different loaders** ({listed}). They decode "
        "and resize differently: `python -m mfm.loader_drift` measures by how much."
    ]


def _metadata(path: Path) -> dict[str, str]:
    try:
        return read_metadata(path) or {}
    except (OSError, SafetensorError):
        return {}
