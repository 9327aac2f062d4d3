"""Runs in MLflow: a database file, or a server."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm.errors import UserError
from mfm.reporting.tracking.runs import Tracked

if TYPE_CHECKING:  # an extra that few have
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_INSTALL = "pip install -c constraints.txt mlflow-skinny sqlalchemy alembic"
_SQLITE = "sqlite:///"
_STATUS = {"running": "RUNNING", "interrupted": "KILLED", "done": "FINISHED"}
_KEY, _SENT = "mfm.key", "mfm.sent"  # tags
_AT_ONCE = 100  # values in a request; a server takes as many settings
_LONGEST = 500  # characters of a setting

Values = Mapping[str, Mapping[int, float]]  # by metric and epoch


def open_tracker(at: str) -> MlflowRuns:
    """A server's address, or a database's: 'sqlite:///FILE', or the file alone.

    Raises UserError where the package is missing, or where nothing answers.
    """
    # Nothing is told to anybody else, and an address that doesn't answer is told soon.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    address = at if "://" in at else f"{_SQLITE}{Path(at).resolve()}"
    with _explained(address):
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if not address.startswith(_SQLITE):
            return MlflowRuns(MlflowClient(address), artifacts=None)
        folder = Path(address.removeprefix(_SQLITE)).parent
        folder.mkdir(parents=True, exist_ok=True)
        return MlflowRuns(MlflowClient(address), artifacts=folder.resolve() / "artifacts")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UserError(f"--to mlflow: {error}: {_INSTALL}") from None
    except Exception as error:  # MlflowException, whose package may be missing
        if type(error).__module__.partition(".")[0] != "mlflow":
            raise
        raise UserError(f"MLflow at {address}: {str(error).splitlines()[0]}") from None


class MlflowRuns:
    """An experiment of MLflow for each dataset, and a run of it for each key."""

    def __init__(self, client: MlflowClient, *, artifacts: Path | None) -> None:
        self._client = client
        self._artifacts = artifacts  # None: the server says where
        self._experiments: dict[str, tuple[str, dict[str, Run]]] = {}

    def send(self, run: Tracked) -> bool:
        """Send epochs that aren't there, and what changed; a run of other losses is replaced."""
        with _explained(self._client.tracking_uri):
            experiment, known = self._experiment(run.dataset)
            there = known.get(run.key)
            if there is not None and there.data.tags.get(_SENT) == run.digest:
                return False
            values, sent = _values(run), dict[str, Mapping[int, float]]()
            if there is not None:
                sent = self._sent(there.info.run_id, values)
                if _contradict(values, sent):  # trained or evaluated again
                    self._client.delete_run(there.info.run_id)
                    there, sent = None, {}
            if there is None:
                there = self._client.create_run(
                    experiment,
                    run_name=run.name,
                    start_time=int(1000 * run.started),
                    tags={_KEY: run.key},
                )
            self._send(there.info.run_id, run, values=values, sent=sent)
        return True

    def _send(self, at: str, run: Tracked, *, values: Values, sent: Values) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client, times = self._client, _times(run)
        new = [
            Metric(name, value, times[step], step)
            for name, steps in values.items()
            for step, value in steps.items()
            if step not in sent.get(name, {})
        ]
        settings = [Param(name, value[:_LONGEST]) for name, value in run.settings.items()]
        for start in range(0, max(len(new), len(settings)), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            client.log_batch(at, metrics=new[part], params=settings[part])
        for file in run.files:
            client.log_artifact(at, str(file))
        client.set_terminated(at, _STATUS[run.state], end_time=max(times.values()))
        if run.state == "running":
            client.update_run(at, status=_STATUS[run.state])
        # Last: what was cut short is sent again.
        facts = {**run.facts, _SENT: run.digest}
        client.log_batch(at, tags=[RunTag(name, value) for name, value in facts.items()])

    def _experiment(self, dataset: str) -> tuple[str, dict[str, Run]]:
        """Its id, and its runs by key."""
        if dataset not in self._experiments:
            name = f"mfm {dataset}"
            found = self._client.get_experiment_by_name(name)
            if found is None:
                where = None if self._artifacts is None else self._artifacts.as_uri()
                number = self._client.create_experiment(name, artifact_location=where)
            else:
                number = found.experiment_id
            self._experiments[dataset] = number, dict(self._runs(number))
        return self._experiments[dataset]

    def _runs(self, experiment: str) -> Iterator[tuple[str, Run]]:
        token = None
        while token != "":
            page: Any = self._client.search_runs([experiment], page_token=token)
            for run in page:
                if _KEY in run.data.tags:
                    yield run.data.tags[_KEY], run
            token = page.token or ""

    def _sent(self, at: str, values: Values) -> dict[str, Mapping[int, float]]:
        history: dict[str, Sequence[Metric]] = {
            name: self._client.get_metric_history(at, name) for name in values
        }
        return {name: {each.step: each.value for each in its} for name, its in history.items()}


def _values(run: Tracked) -> dict[str, dict[int, float]]:
    """What there is to tell, by metric and epoch."""
    values: dict[str, dict[int, float]] = {}
    for row in run.epochs:
        for name, value in asdict(row).items():
            if name != "epoch":
                values.setdefault(name, {})[row.epoch] = float(value)
    for name, value in run.found.items():
        values[name] = {len(run.epochs): value}
    return values


def _times(run: Tracked) -> dict[int, int]:
    """Milliseconds since 1970 when each epoch ended, as the run's start and its epochs tell."""
    times, now = {0: int(1000 * run.started)}, run.started
    for row in run.epochs:
        now += row.seconds
        times[row.epoch] = int(1000 * now)
    return times


def _contradict(values: Values, sent: Values) -> bool:
    """Whether what was sent is of another training; a resumed one repeats its losses, not times."""
    return any(
        step not in values[name] or not _same(value, values[name][step])
        for name in values
        if name == "loss" or "/" in name
        for step, value in sent[name].items()
    )


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
