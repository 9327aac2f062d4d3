"""Question of an experiment: its primary comparison, declared before the first training."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mfm.evaluation.metrics import METRICS, TOP1
from mfm.experiment.layout import finished_runs
from mfm.files.atomic import write_csv
from mfm.processes.locks import only_writer
from mfm.settings.messages import shown_value
from mfm.settings.section import Name, Positive, Section


def _known(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"give one of {', '.join(METRICS)}, not {shown_value(metric)}")
    return metric


MetricName = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra={"enum": list(METRICS)})
]


class Question(Section):
    """One comparison, which is tested at 5%; all others are corrected for their number."""

    arm: Name = Field(description="The arm that the question is about.")
    baseline: Name = Field(description="The arm that it is compared with.")
    metric: MetricName = Field(
        TOP1,
        description="What is compared: one of the metrics of metrics.md. The table's numbers and "
        "verdicts are about it.",
    )
    runs: int | None = Field(
        None, ge=1, description="Finetunings of the arm; null: as many as it has seeds."
    )
    difference: Positive | None = Field(
        None,
        description="The difference in points that the question is about, if it is known; of a "
        "metric that is not in percent, in its own unit.",
    )
    deviation: Positive | None = Field(
        None,
        description="Standard deviation expected of one run's difference, as difference is given. "
        "With it, the planned number of runs is judged before anything runs.",
    )


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The question as it stood at a time."""

    declared: str  # UTC, e.g. 2026-11-26 18:00
    arm: str
    baseline: str
    metric: str
    runs: int
    pretrainings: int  # of the arm; 0 where it has none
    finished: int  # training runs in the results folder by then

    @property
    def asks(self) -> tuple[object, ...]:
        """What is asked, without when."""
        return (self.arm, self.baseline, self.metric, self.runs, self.pretrainings)


def read(path: Path) -> list[Declaration]:
    """All declarations, the first one first; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Declaration(
                declared=row["declared"],
                arm=row["arm"],
                baseline=row["baseline"],
                metric=row["metric"],
                runs=int(row["runs"]),
                pretrainings=int(row["pretrainings"]),
                finished=int(row["finished"]),
            )
            for row in csv.DictReader(file)
        ]


def declare(path: Path, declaration: Declaration) -> None:
    """Add a declaration, unless the last one asks the same."""
    with only_writer(path.parent):
        known = read(path)
        if known and known[-1].asks == declaration.asks:
            return
        rows = [asdict(each) for each in (*known, declaration)]
        write_csv(path, rows, [field.name for field in fields(Declaration)])


def declare_now(path: Path, asked: str) -> None:
    """Declare what is asked, as JSON has it, in the results folder that `path` is in."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    finished = len(finished_runs(path.parent))
    declare(path, Declaration(declared=now, finished=finished, **json.loads(asked)))
