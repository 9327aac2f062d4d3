"""Export of a run's weights for plain torchvision or timm, with a model card."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import safetensors.torch

from mfm.errors import UserError
from mfm.evaluation.results import read_results
from mfm.experiment.jobs import FinetuneJob, PretrainJob, parse_training
from mfm.experiment.layout import results_of, rows_of
from mfm.experiment.places import check_place
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.models.interchange import describe_network, with_new_classifier, write_plain
from mfm.models.metadata import read_metadata
from mfm.models.weights import weights_checksum
from mfm.reporting import variants
from mfm.reporting.comparability import own_config
from mfm.reporting.model_card import card
from mfm.reporting.render_markdown import to_markdown


def read_run(weights: Path) -> PretrainJob | FinetuneJob:
    """The configuration of the run that left a weight file.

    Raises UserError where it is missing or of another run.
    """
    metadata = read_metadata(weights) if weights.is_file() else None
    if metadata is None or metadata.get("stage") not in ("pretrain", "finetune"):
        raise UserError(
            f"{weights} is not what a pretraining or finetuning of this package left; for files of "
            "other code there is mfm convert"
        )
    path = weights.parent / "config.json"  # a copy of the run may lie anywhere
    epochs = int(metadata["epochs"]) if "epochs" in metadata else None
    values = own_config(path, metadata["config_hash"], epochs=epochs)
    if not values:
        raise UserError(
            f"{path} is missing or has changed since {weights.name} was trained: export what the "
            "workflow left, with its own config.json beside it"
        )
    return parse_training(values, where=str(path))


def export(
    weights: Path,
    folder: Path,
    *,
    target: str,
    results: Path | None = None,
    new_classifier: int = 0,
) -> str | None:
    """Write folder/model.safetensors and folder/README.md; returns a note on other networks.

    `results` is a results.csv, for top-1; None looks for one above the weights. Raises UserError
    for files that aren't what their stages left.
    """
    run = read_run(weights)
    records.check([weights], results=results_of(weights.parent))
    check_place(weights)
    metadata = read_metadata(weights)
    assert metadata is not None
    tensors = safetensors.torch.load_file(weights)
    network = describe_network(tensors, model=run.model, size=run.size)
    if new_classifier:
        network = with_new_classifier(tensors, network, new_classifier)
    path = folder / "model.safetensors"
    write_plain(tensors, network, target=target, path=path)
    found = card(
        run,
        metadata,
        network,
        target=target,
        checksum=weights_checksum(str(path)),
        rows=_rows(weights, results),
        new_classifier=bool(new_classifier),
    )
    write_text(folder / "README.md", to_markdown(found))
    return network.note


def _rows(weights: Path, results: Path | None) -> pd.DataFrame | None:
    """Rows of results.csv, or of the variant that the weights are of; None where there are none."""
    if results is not None:
        try:
            return read_results(results)
        except (OSError, ValueError) as error:
            raise UserError(f"--results {results} can't be read: {error}") from None
    path, value = rows_of(str(weights.resolve())) or ("", None)
    if not Path(path).is_file():
        return None
    records.check([path], results=results_of(weights.parent))
    if value is None:
        return read_results(path)
    rows = variants.read_rows(path)
    # The rows of a tuning's trials are of images set aside, which no card is about.
    return rows[rows["value"] == value] if "value" in rows else None
