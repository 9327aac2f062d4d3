"""Where every number of a report comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.reporting.comparability import metadata_of


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One training run and the number it gave. Links are relative to the results folder."""

    run: str  # its folder, relative to the results
    seed: str
    number: str
    config_hash: str
    code_version: str
    torch: str
    hardware: str
    finished: str  # in UTC
    seconds: float
    log: str | None
    config: str | None


def finetunings(results: pd.DataFrame, folder: Path) -> list[Origin]:
    """One entry for each row of results.csv, or of label_efficiency.csv."""
    return [
        _origin(
            Path(row["checkpoint"]),
            folder,
            seed=str(row["seed"]),
            number=f"top-1 {row['top1']:.2f}",
            seconds=float(row["seconds"]),
            config_hash=str(row["config_hash"]),
            code_version=str(row["code_version"]),
        )
        for row in results.drop_duplicates("checkpoint").to_dict("records")
    ]


def pretrainings(experiment: Experiment, folder: Path) -> list[Origin]:
    """One entry for each pretraining that an arm uses."""
    found = []
    for name in resolve.used_pretrainings(experiment):
        run = folder / "pretrain" / name
        epochs = pd.read_csv(run / "metrics.csv")
        found.append(
            _origin(
                run / "backbone.safetensors",
                folder,
                seed=str(experiment.pretrain[name].seed),
                number=f"loss {epochs['loss'].iloc[-1]:.4f}",
                seconds=float(epochs["seconds"].sum()),
            )
        )
    return found


def _origin(
    weights: Path, folder: Path, *, seed: str, number: str, seconds: float, **known: str
) -> Origin:
    said = metadata_of(weights)
    inside = weights.is_relative_to(folder)
    run = weights.parent.relative_to(folder) if inside else weights.parent
    finished = "-"
    if weights.exists():
        finished = f"{datetime.fromtimestamp(weights.stat().st_mtime, UTC):%Y-%m-%d %H:%M}"
    return Origin(
        run=run.as_posix(),
        seed=seed,
        number=number,
        config_hash=known.get("config_hash", said.get("config_hash", "-")),
        code_version=known.get("code_version", said.get("code_version", "-")),
        torch=said.get("torch", "-"),
        hardware=said.get("hardware", "-"),
        finished=finished,
        seconds=seconds,
        log=_link(folder, f"logs/{run.as_posix()}.log") if inside else None,
        config=_link(folder, f"{run.as_posix()}/config.json") if inside else None,
    )


def _link(folder: Path, path: str) -> str | None:
    return path if (folder / path).is_file() else None


def shared(origins: Sequence[Origin], field: str) -> str | None:
    """The value of a field where all runs have the same."""
    values = {str(getattr(origin, field)) for origin in origins}
    return values.pop() if len(values) == 1 else None
