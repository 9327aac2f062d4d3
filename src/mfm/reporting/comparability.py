"""Comparability of the arms: whether they differ in anything besides what they start from.

Nothing here is taken from the experiment's configuration, which may have changed since a run: each
run is asked what it was made from and with. A finetuned model's metadata say that for finetuning
and, as far as a file said so, for its initial weights; the predictions' metadata for evaluation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from mfm.experiment.layout import locate
from mfm.models.metadata import read_metadata
from mfm.reporting.document import Block, Bold, Bullets, Code, Column, Paragraph, Table, Text

# The same in all stages of all arms.
_EVERYWHERE = ("code_version", "loader", "torch", "torchvision", "timm", "pillow", "dali")
# The same in one stage of all arms.
_BY_STAGE = ("precision", "hardware")
_HINTS: dict[str, tuple[str | Code, ...]] = {
    "code_version": (
        "Rerun the older ones (",
        Code("snakemake --forcerun pretrain"),
        ", or ",
        Code("finetune"),
        ") before comparing.",
    ),
    "loader": (
        "They decode and resize differently: ",
        Code("mfm loader-drift"),
        " measures by how much.",
    ),
    "hardware": ("Times do not compare, and numbers may differ by rounding.",),
}
# Of a run's configuration: what makes it this arm's and this seed's, and what metadata say too.
_LEFT_OUT = ("arm", "seed", "source", "loader", "makes_up_for")


@dataclass(frozen=True)
class Fact:
    """What one run says of one key."""

    key: str
    value: str
    stage: str
    arm: str
    seed: int


@dataclass(frozen=True)
class Differing:
    """A key in which runs differ that should not, with who has each value."""

    key: str
    values: dict[str, list[str]]


def facts(results: pd.DataFrame) -> list[Fact]:
    """What all runs say of themselves. A file that is missing or damaged says nothing."""
    found: list[Fact] = []
    for row in results.to_dict("records"):
        who = (str(row["arm"]), int(row["seed"]))
        checkpoint = str(row["checkpoint"])
        weights, model = metadata_of(Path(checkpoint)), locate(checkpoint)
        evaluation = {} if model is None else _predictions_metadata(model.evaluation.predictions)
        stages = {
            "finetuning": {**weights, "code_version": str(row["code_version"])},
            "pretraining": {
                key.removeprefix("initial_"): value
                for key, value in weights.items()
                if key.startswith("initial_") and value != "-"
            },
            "evaluation": evaluation,
        }
        for stage, described in stages.items():
            for key in (*_EVERYWHERE, *_BY_STAGE):
                if described.get(key, "-") != "-":
                    found.append(Fact(key, described[key], stage, *who))
        if (hashed := evaluation.get("config_hash")) is not None:
            found.append(Fact("evaluation's configuration", hashed, "evaluation", *who))
        for key, value in _flat(_shared_config(row)):
            found.append(Fact(key, value, "configuration", *who))
        if model is not None and Path(model.run.subset).exists():
            digest = _digest(Path(model.run.subset).read_bytes())
            key = f"labelled images of seed {row['seed']}"
            found.append(Fact(key, f"subset.txt {digest}", "finetuning", *who))
    return found


def differing(found: list[Fact]) -> list[Differing]:
    """Keys in which the runs differ, each with its values and the runs that have them."""
    groups: dict[tuple[str, str], dict[str, list[Fact]]] = {}
    for fact in found:
        # Pretraining may well have another number format or processor than finetuning.
        stage = fact.stage if fact.key in _BY_STAGE else ""
        groups.setdefault((stage, fact.key), {}).setdefault(fact.value, []).append(fact)
    return [
        Differing(
            key=f"{key} of {stage}" if stage else key,
            values={value: _who(values, value) for value in sorted(values)},
        )
        for (stage, key), values in groups.items()
        if len(values) > 1
    ]


def unchecked(results: pd.DataFrame) -> list[str]:
    """Runs whose own configuration or metadata are not there to be compared."""
    missing = []
    for row in results.to_dict("records"):
        if not _shared_config(row) or not metadata_of(Path(str(row["checkpoint"]))):
            missing.append(f"{row['arm']} (seed {row['seed']})")
    return missing


_Row = tuple[str, str, str]  # key, value, runs
COLUMNS: list[Column[_Row]] = [
    Column("setting", lambda row: Code(row[0])),
    Column("value", lambda row: row[1]),
    Column("runs", lambda row: row[2]),
]


def warnings(
    results: pd.DataFrame, *, intended: Mapping[str, Collection[str]] | None = None
) -> list[Block]:
    """What differs, in a table below a sentence that says so; nothing where all is alike.

    `intended` are the arms that were asked to differ in a setting, or in a section of settings.
    """

    def asked_for(fact: Fact) -> bool:
        return any(
            fact.key.startswith(f"{key}.") or fact.key == key
            for key, arms in (intended or {}).items()
            if fact.arm in arms
        )

    found = differing([fact for fact in facts(results) if not asked_for(fact)])
    rows = [
        (each.key, value, "; ".join(runs)) for each in found for value, runs in each.values.items()
    ]
    missing = unchecked(results)
    blocks: list[Block] = []
    if len(missing) == len(results):
        said = "The runs' own files are not here, so their settings were not compared."
        blocks.append(Paragraph(said))
    elif missing:
        why = "not compared: missing, or not what was run"
        rows.append(("model or config.json", why, ", ".join(missing)))
    if not rows:
        return blocks
    more = "differ in more than what they start from" if found else "could not all be compared"
    keys = dict.fromkeys(each.key.split(" of ")[0] for each in found)
    hints = [_HINTS[key] for key in keys if key in _HINTS]
    return [
        *blocks,
        Paragraph(Bold(f"Warning: these runs {more}.")),
        Table(COLUMNS, rows),
        Bullets(hints),
    ]


def continued(results: pd.DataFrame) -> list[Text]:
    """A sentence where a run was interrupted, and continued with other settings than it began."""
    changed: dict[str, list[str]] = {}
    for row in results.to_dict("records"):
        said = metadata_of(Path(str(row["checkpoint"])))
        for of, prefix in (("", ""), ("pretraining of ", "initial_")):
            keys = said.get(f"{prefix}continued_changed")
            if keys is not None:
                changed.setdefault(keys, []).append(f"{of}{row['arm']} (seed {row['seed']})")
    return [
        (
            Bold("Warning: runs were continued with other settings than they began with"),
            f" ({keys}): {', '.join(runs)}.",
        )
        for keys, runs in changed.items()
    ]


def version_warning(results: pd.DataFrame) -> list[Text]:
    """A sentence where rows were computed by different versions of the code; otherwise none."""
    versions = sorted(set(results["code_version"]))
    if len(versions) < 2:
        return []
    bold = Bold("Warning: rows were computed by different versions of the code")
    return [(bold, f" ({', '.join(versions)}).")]


def _who(values: dict[str, list[Fact]], value: str) -> list[str]:
    """'finetuning of scratch, mfm'; with the seed where an arm's seeds differ."""
    by_stage: dict[str, list[str]] = {}
    for fact in values[value]:
        split = any(
            (other.arm, other.stage) == (fact.arm, fact.stage)
            for other_value, others in values.items()
            if other_value != value
            for other in others
        )
        name = f"{fact.arm} (seed {fact.seed})" if split else fact.arm
        names = by_stage.setdefault(fact.stage, [])
        if name not in names:
            names.append(name)
    return [
        f"{stage} of {', '.join(names)}" if stage != "configuration" else ", ".join(names)
        for stage, names in by_stage.items()
    ]


def own_config(path: str | Path, config_hash: str, *, epochs: int | None) -> dict[str, Any]:
    """A run's own settings, as they were; {} where they are not here.

    The file may be newer than the run: only the one whose hash the run carries is its own. The
    length of a run that makes up for a pretraining is not in its file: it had `epochs`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\n")
        values: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return {}
    if epochs is not None and values.get("makes_up_for") is not None:
        values["training"]["epochs"] = epochs
        text = json.dumps(values, indent=2, sort_keys=True)
    return values if _digest(text.encode()) == config_hash else {}


def _shared_config(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Of a run's own settings, those that arms should share; {} where they are not here."""
    model = locate(str(row["checkpoint"]))
    if model is None:
        return {}
    epochs = int(row["epochs"]) if "epochs" in row else None
    values = own_config(model.run.config, str(row["config_hash"]), epochs=epochs)
    return {key: value for key, value in values.items() if key not in _LEFT_OUT}


def _flat(values: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), json.dumps(values)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def metadata_of(path: Path) -> dict[str, str]:
    """What a finetuned model says of itself; nothing where it was moved or damaged."""
    try:
        return read_metadata(path) or {}
    except (OSError, SafetensorError):
        return {}


def _predictions_metadata(path: str) -> dict[str, str]:
    try:
        described = (pq.read_schema(path).metadata or {}).get(b"mfm", b"{}")
    except (OSError, pa.ArrowInvalid):
        return {}
    metadata: dict[str, str] = json.loads(described)
    return metadata
