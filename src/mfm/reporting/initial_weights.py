"""Weights that arms started from, published or local: which they were, by their checksums."""

from __future__ import annotations

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
        starts = {(m["initial_sha256"], m["classifier"]) for m in said if "initial_sha256" in m}
        for checksum, classifier in sorted(starts):
            what = source.weights or f"pretraining '{source.pretrain}'"
            lines.append(
                f"'{name}' starts from {what} (SHA-256 {checksum}); {_words(source, classifier)}."
            )
    return lines


def _words(source: FromWeights, classifier: str) -> str:
    if classifier == "kept":
        return "its classifier is kept"
    if source.classifier == "keep":
        return (
            "its classifier is replaced by a new one, though the configuration asks to keep it: "
            "the weights have none with as many classes"
        )
    return "its classifier is replaced by a new one"
