"""Places of runs: whether the weights in a run's folder are of the run that it is named after."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from mfm.errors import UserError
from mfm.experiment.layout import TRAINED
from mfm.files.records import again
from mfm.models.metadata import read_metadata

_CALLED = {"pretrain": "pretraining", "finetune": "arm"}  # also the key of the name


def check_place(weights: Path) -> None:
    """Check a file of weights in a results folder; of one elsewhere nothing is known.

    A folder that was exchanged whole, with its settings and its record, fits together. What its
    weights say of themselves tells that they are another run's.

    Raises UserError for weights of another pretraining, arm or seed.
    """
    parts = weights.parts
    if len(parts) < 4 or parts[-4] not in _CALLED or weights.name not in TRAINED:
        return
    try:
        said = read_metadata(weights) or {}
    except (OSError, SafetensorError):
        return  # its record tells of a damaged file
    called = _CALLED[parts[-4]]
    name, seed = said.get(called, parts[-3]), f"seed{said.get('seed', '')}"
    if (name, seed) != (parts[-3], parts[-2]):
        raise UserError(
            f"{weights} is of {called} {name}, {seed.replace('seed', 'seed ')}, and its folder is "
            f"another run's: {again(weights)}"
        )
