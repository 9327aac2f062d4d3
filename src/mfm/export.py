"""`python -m mfm.export`: a run's weights for plain torchvision or timm, with a model card.

    python -m mfm.export results/finetune/mfm/seed0/model.safetensors published/mfm --to timm
    python -m mfm.export results/pretrain/mfm/backbone.safetensors published/mfm --to torchvision

Leaves model.safetensors, which loads with strict=True, and README.md in the folder.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import safetensors.torch

from mfm import config, models
from mfm.atomic import write_text
from mfm.errors import UserError, exits_on_user_error
from mfm.plain import (
    TARGETS,
    add_new_classifier,
    describe_network,
    with_new_classifier,
    write_plain,
)
from mfm.report.model_card import Run, render_card
from mfm.weights_metadata import read_metadata


def read_run(weights: Path) -> Run:
    """The configuration of the run that left a weight file.

    Raises UserError where it is missing or of another run.
    """
    metadata = read_metadata(weights) if weights.is_file() else None
    if metadata is None or metadata.get("stage") not in ("pretrain", "finetune"):
        raise UserError(
            f"{weights} is not what a pretraining or finetuning of this package left; for files of "
            "other code there is python -m mfm.convert"
        )
    path = weights.parent / "config.json"
    run: Run
    if metadata["stage"] == "pretrain":
        run = config.load_json(config.PretrainRun, path)
    else:
        run = config.load_json(config.FinetuneRun, path)
    if config.config_hash(run) != metadata["config_hash"]:
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
        checksum=models.weights_checksum(str(path)),
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


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, help="backbone.safetensors or model.safetensors")
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--to", choices=TARGETS, default="timm", help="whose model takes it")
    parser.add_argument("--results", type=Path, help="results.csv (default: the one above)")
    add_new_classifier(parser)
    options = parser.parse_args()
    export(
        options.weights,
        options.folder,
        target=options.to,
        results=options.results,
        new_classifier=options.new_classifier,
    )
    print(f"wrote {options.folder / 'model.safetensors'} and {options.folder / 'README.md'}")


if __name__ == "__main__":
    main()
