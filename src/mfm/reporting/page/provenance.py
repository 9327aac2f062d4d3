"""Provenance of a report's numbers: the runs that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from mfm.experiment.layout import Layout, RunFiles, locate
from mfm.experiment.variants import Runs
from mfm.reporting.comparability import metadata_of
from mfm.reporting.document import Column, Link, Paragraph, Section, Table, Text
from mfm.reporting.watch import duration


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


def finetunings(results: pd.DataFrame, layout: Layout) -> list[Origin]:
    """One entry for each finetuning that has a row."""
    found = []
    for row in results.drop_duplicates("checkpoint").to_dict("records"):
        weights = str(row["checkpoint"])
        model = locate(weights)
        found.append(
            _origin(
                weights,
                layout,
                None if model is None else model.run,
                seed=str(row["seed"]),
                number=f"top-1 {row['top1']:.2f}",
                seconds=float(row["seconds"]),
                config_hash=str(row["config_hash"]),
                code_version=str(row["code_version"]),
            )
        )
    return found


def pretrainings(runs: Runs) -> list[Origin]:
    """One entry for each pretraining that an arm uses, also those of variants."""
    found = []
    for folder, name, seed in runs.pretrainings:
        files = runs.layout.pretraining(name, seed, folder=folder)
        epochs = pd.read_csv(files.metrics)
        found.append(
            _origin(
                files.weights,
                runs.layout,
                files,
                seed=str(seed),
                number=f"loss {epochs['loss'].iloc[-1]:.4f}",
                seconds=float(epochs["seconds"].sum()),
            )
        )
    return found


def _origin(
    weights: str,
    layout: Layout,
    files: RunFiles | None,
    *,
    seed: str,
    number: str,
    seconds: float,
    **known: str,
) -> Origin:
    said, path = metadata_of(Path(weights)), Path(weights)
    finished = "-"
    if path.exists():
        finished = f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d %H:%M}"
    return Origin(
        run=layout.relative(path.parent.as_posix()),
        seed=seed,
        number=number,
        config_hash=known.get("config_hash", said.get("config_hash", "-")),
        code_version=known.get("code_version", said.get("code_version", "-")),
        torch=said.get("torch", "-"),
        hardware=said.get("hardware", "-"),
        finished=finished,
        seconds=seconds,
        log=None if files is None else _link(layout, files.log),
        config=None if files is None else _link(layout, files.config),
    )


def _link(layout: Layout, path: str) -> str | None:
    """The path of a file that is in the results folder, relative to it."""
    relative = layout.relative(path)
    return relative if relative != path and Path(path).is_file() else None


def _config(origin: Origin) -> Text:
    if origin.config is None:
        return "-"
    text = origin.config_hash if origin.config_hash != "-" else "config.json"
    return Link(text, origin.config)


COLUMNS: list[Column[Origin]] = [
    Column("run", lambda origin: origin.run),
    Column("seed", lambda origin: origin.seed),
    Column("number", lambda origin: origin.number),
    Column("configuration", _config),
    Column("code version", lambda origin: origin.code_version),
    Column("torch", lambda origin: origin.torch),
    Column("hardware", lambda origin: origin.hardware),
    Column("finished", lambda origin: origin.finished, unit="UTC"),
    Column("time", lambda origin: duration(origin.seconds)),
    Column("log", lambda origin: "-" if origin.log is None else Link("log", origin.log)),
]


def section(origins: Sequence[Origin], layout: Layout, *, checked: int) -> Section:
    """What they have in common, and a row for each run."""
    rows = layout.relative(layout.rows)
    code_version, hardware = shared(origins, "code_version"), shared(origins, "hardware")
    common = f" All runs: code version {code_version}." if code_version else ""
    common += f" All runs: {hardware}." if hardware and hardware != "-" else ""
    return Section(
        "Where the numbers come from",
        [
            Paragraph(
                (
                    "Every number above is computed from these runs; ",
                    Link(rows, rows),
                    " has them with all digits. Links work where this file lies in its results "
                    f"folder.{common}",
                )
            ),
            Paragraph(
                f"When this page was made, {checked:,} files fitted together by their SHA-256, "
                "from the table back to the images: each was what its stage had left and the next "
                f"one read. mfm verify {layout.results} checks them again."
            ),
            Table(COLUMNS, origins),
        ],
    )


def shared(origins: Sequence[Origin], field: str) -> str | None:
    """The value of a field where all runs have the same."""
    values = {str(getattr(origin, field)) for origin in origins}
    return values.pop() if len(values) == 1 else None
