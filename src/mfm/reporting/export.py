"""Export of a run's weights for plain torchvision or timm, with a model card."""

from __future__ import annotations

import csv
from pathlib import Path

import safetensors.torch

from mfm.errors import UserError
from mfm.experiment.jobs import load_training
from mfm.files.atomic import write_text
from mfm.models.interchange import describe_network, with_new_classifier, write_plain
from mfm.models.metadata import read_metadata
from mfm.reporting.model_card import render_card
from mfm.settings.section import config_hash
from mfm.training.job import TrainingJob


def read_run(weights: Path) -> TrainingJob:
    """The configuration of the run that left a weight file.

    Raises UserError where it is missing or of another run.
    """
    metadata = read_metadata(weights) if weights.is_file() else None
    if metadata is None or metadata.get("stage") not in ("pretrain", "finetune"):
        raise UserError(
            f"{weights} is not what a pretraining or finetuning of this package left; for files of "
            "other code there is mfm convert"
        )
    path = weights.parent / "config.json"
    run = load_training(path)
    if config_hash(run) != metadata["config_hash"]:
        raise UserError(
            f"{path} has changed since {weights.name} was trained: export what the workflow left, "
            "with its own config.json beside it"
        )
    return run


def export(
    weights: Path,
    folder: Path,
    *,
    target: str,
    results: Path | None = None,
    new_classifier: int = 0,
) -> None:
    """Write folder/model.safetensors and folder/README.md.

    `results` is a results.csv, for top-1; None looks for one above the weights.
    """
    run = read_run(weights)
    metadata = read_metadata(weights)
    assert metadata is not None
    tensors = safetensors.torch.load_file(weights)
    network = describe_network(tensors, backbone=run.model.backbone)
    if new_classifier:
        network = with_new_classifier(tensors, network, new_classifier)
    path = folder / "model.safetensors"
    write_plain(tensors, network, target=target, path=path)
    card = render_card(
        run,
        metadata,
        network,
        target=target,
        checksum=weights.weights_checksum(str(path)),
        rows=_rows(results or _find_results(weights)),
        new_classifier=bool(new_classifier),
    )
    write_text(folder / "README.md", card)


def _find_results(weights: Path) -> Path | None:
    found = [folder / "results.csv" for folder in weights.resolve().parents[:5]]
    return next((path for path in found if path.is_file()), None)


def _rows(results: Path | None) -> list[dict[str, str]]:
    if results is None:
        return []
    try:
        with open(results, newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"--results {results} can't be read: {error}") from None
