"""Verification of a folder of results: whether every file in it is what its stage left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mfm.errors import UserError
from mfm.evaluation.results import collect_rows
from mfm.experiment.layout import RECORDED
from mfm.experiment.places import check_place
from mfm.files import records


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found."""

    stages: int  # with a record
    files: int  # looked at
    problems: list[str]  # a line each
    elsewhere: list[Path]  # read from outside the folder; gone, or changed since


def verify(results: Path) -> Verified:
    """Check every stage below a folder of results, also of one that was moved or sent.

    Raises UserError for a folder that has no record of any stage.
    """
    found = records.records_below(results)
    if not found:
        raise UserError(
            f"{results} has no records (*.record.json): give a results folder of this workflow; "
            "earlier versions left none"
        )
    chain = records.Chain(results)
    for record in found:
        chain.follow_record(record)
    for name in RECORDED:
        for file in sorted(results.rglob(name)):  # also one whose record was deleted
            chain.follow(file)
            chain.problems += _misplaced(file)
    problems = list(dict.fromkeys(chain.problems))
    rows = [record for record in found if record.name.endswith(".csv.record.json")]
    for record in rows:
        problems += _contradicted(record.with_name(record.name.removesuffix(".record.json")))
    return Verified(
        stages=len(found),
        files=len(chain.sums),
        problems=problems,
        elsewhere=sorted(chain.elsewhere),
    )


def _misplaced(weights: Path) -> list[str]:
    try:
        check_place(weights)
    except UserError as error:
        return [str(error)]
    return []


def _contradicted(row: Path) -> list[str]:
    """What an evaluation's predictions say against its row."""
    if not row.exists() or not row.with_suffix(".parquet").exists():
        return []
    try:
        collect_rows([row])
    except UserError as error:
        return [str(error)]
    except (OSError, ValueError, KeyError):  # damaged, and named by its record
        return []
    return []
