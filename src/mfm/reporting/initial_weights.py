"""Weights that arms started from, published or local: which they were, by their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mfm.experiment.arms import FromWeights
from mfm.experiment.settings import Experiment
from mfm.reporting.comparability import metadata_of


def starting_weights(experiment: Experiment, results: pd.DataFrame) -> list[str]:
    """A sentence for each arm that starts from `weights`, or was to keep a classifier.

    From what each finetuned model says of itself; one that was moved or damaged says nothing.
    """
    lines = []
    for name, source in experiment.arms.items():
        if not isinstance(source, FromWeights):
            continue
        if source.weights is None and source.classifier == "new":
            continue
        checkpoints = results.loc[results["arm"] == name, "checkpoint"]
        said = [metadata_of(Path(checkpoint)) for checkpoint in checkpoints]
        starts = {
            (m["initial_sha256"], m["classifier"], _known(m)) for m in said if "initial_sha256" in m
        }
        for checksum, classifier, known in sorted(starts):
            what = source.weights or f"pretraining '{source.pretrain}'"
            lines.append(
                f"'{name}' starts from {what} (SHA-256 {checksum}{known}); "
                f"{_words(source, classifier)}."
            )
    return lines


def trained_on(rows: pd.DataFrame) -> list[str]:
    """What the weights that an arm's runs started from were trained on, as far as it is known."""
    said = [metadata_of(Path(checkpoint)) for checkpoint in rows["checkpoint"]]
    return sorted({each["initial_trained_on"] for each in said if "initial_trained_on" in each})


def _known(said: Mapping[str, str]) -> str:
    """What the weights' source said of them, beside what it said of the labels."""
    parts = {
        ", revision {}": said.get("initial_revision"),
        "; trained on {}": said.get("initial_trained_on"),
        ", at {} px": said.get("initial_image_size"),
        ", normalised with {}": said.get("initial_normalisation"),
        "; {}": said.get("initial_fitted"),
    }
    return "".join(text.format(value) for text, value in parts.items() if value)


def _words(source: FromWeights, classifier: str) -> str:
    if classifier == "kept":
        return "its classifier is kept"
    if source.classifier == "keep":
        return (
            "its classifier is replaced by a new one, though the configuration asks to keep it: "
            "the weights have none with as many classes"
        )
    return "its classifier is replaced by a new one"
