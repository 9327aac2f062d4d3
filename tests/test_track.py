import json
import os
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path

import finished
import pytest

from mfm.commands import track
from mfm.errors import UserError
from mfm.experiment import resolve
from mfm.experiment.layout import Layout
from mfm.files import records
from mfm.reporting.tracking.runs import read
from mfm.settings.section import config_hash, dumps
from mfm.training import status
from mfm.training.metrics import EpochMetrics, write_metrics
from mfm.training.tensorboard import FOLDER


def rows(*losses, seconds=2.0):
    speed = {"lr": 0.1, "images_per_second": 5.0, "seconds": seconds, "peak_memory_mb": 1.0}
    return [EpochMetrics(epoch=n, loss=loss, **speed) for n, loss in enumerate(losses, 1)]


class Folder:
    """A results folder whose runs are set going, killed and finished."""

    def __init__(self, results):
        self.results = results
        self.ours = finished.experiment(results, seeds=[0])
        self.layout = Layout(str(results))
        self.pretraining = self.layout.pretraining("p", 0)
        self.finetuning = self.layout.finetuning("mfm", 0)
        self.pretrain_job = resolve.pretrain_job(self.ours, "p", 0)
        self.finetune_job = resolve.finetune_job(self.ours, "mfm", 0)
        for files, job in (
            (self.pretraining, self.pretrain_job), (self.finetuning, self.finetune_job)
        ):  # fmt: skip
            Path(files.folder).mkdir(parents=True)
            Path(files.config).write_text(dumps(job) + "\n")

    def goes_on(self, files, *losses):
        rolling = Path(files.folder, status.FOLDER)
        rolling.mkdir(exist_ok=True)
        write_metrics(rows(*losses), rolling / "metrics.csv")
        state = status.Report(
            epoch=1, epochs=3, step=1, steps=2, loss=1.0, lr=0.1, images_per_second=5.0,
            seconds_left=3.0, time=time.time(), process=os.getpid(), host=socket.gethostname(),
        )  # fmt: skip
        (rolling / status.NAME).write_text(json.dumps(asdict(state)))

    def is_killed(self, files):
        path = Path(files.folder, status.FOLDER, status.NAME)
        state = json.loads(path.read_text()) | {"process": 2**22 + 1}
        path.write_text(json.dumps(state))

    def ends(self, files, *losses, seconds=2.0):
        write_metrics(rows(*losses, seconds=seconds), Path(files.metrics))
        Path(files.weights).write_bytes(b"weights")
        records.write(read=[], left=[files.weights, files.metrics])

    def is_evaluated(self, top1):
        row = Path(self.layout.evaluation("mfm", 0).row)
        row.parent.mkdir(parents=True, exist_ok=True)
        said = f"mfm,0,{top1},98.0,0.7,{config_hash(self.finetune_job)}\n"
        text = f"arm,seed,top1,top5,loss,config_hash\n{said}"
        row.write_text(text)
        Path(self.layout.rows).write_text(text)
        (self.results / "table.md").write_text(f"# {top1}\n")


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "results")


def test_what_a_run_is_told_to_be(folder):
    folder.goes_on(folder.pretraining, 3.0)
    (run,) = read(folder.results)  # the finetuning waits
    assert (run.name, run.state) == ("pretrain/p/seed0", "running")
    assert run.key == f"{config_hash(folder.pretrain_job)}-seed0"
    assert run.settings["training.optimizer.name"] == "adamw"
    assert [row.loss for row in run.epochs] == [3.0]
    folder.is_killed(folder.pretraining)
    assert read(folder.results)[0].state == "interrupted"
    folder.ends(folder.pretraining, 3.0, 2.0)
    folder.ends(folder.finetuning, 1.0)
    folder.is_evaluated(75.5)
    pretrained, finetuned, whole = read(folder.results)
    assert pretrained.state == "done"
    assert pretrained.key == run.key
    assert pretrained.facts["weights"].endswith("pretrain/p/seed0/backbone.safetensors")
    assert len(pretrained.facts["weights_sha256"]) == 64
    assert finetuned.key.startswith(config_hash(folder.finetune_job))
    assert finetuned.found == {
        "evaluation/top1": 75.5, "evaluation/top5": 98.0, "evaluation/loss": 0.7
    }  # fmt: skip
    assert whole.found == {"top1/mfm": 75.5}
    assert {file.name for file in whole.files} == {"results.csv", "table.md"}


def test_runs_from_other_pretrainings_are_others(folder):
    folder.ends(folder.pretraining, 3.0)
    folder.ends(folder.finetuning, 1.0)
    before = {run.name: run.key for run in read(folder.results)}
    longer = json.loads(dumps(folder.pretrain_job))
    longer["training"]["radius"] = 5.0
    Path(folder.pretraining.config).write_text(json.dumps(longer))
    after = {run.name: run.key for run in read(folder.results)}
    assert all(before[name] != after[name] for name in before)


# TensorBoard


def sent(folder, capsys, *words):
    track.main([str(folder.results), *words])
    return capsys.readouterr().out


def scalars(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / FOLDER))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in names}


def test_tensorboard_has_each_epoch_once(folder, capsys):
    folder.goes_on(folder.pretraining, 3.0)
    at = folder.results / "tracking/tensorboard"
    assert sent(folder, capsys, "--to", "tensorboard") == f"{at}: 1 runs, 1 with something new\n"
    folder.is_killed(folder.pretraining)
    folder.goes_on(folder.pretraining, 3.0, 2.0)
    assert "1 with something new" in sent(folder, capsys, "--to", "tensorboard")
    folder.ends(folder.pretraining, 3.0, 2.0, 1.0)
    folder.ends(folder.finetuning, 1.0)
    folder.is_evaluated(75.5)
    assert "3 runs, 3 with" in sent(folder, capsys, "--to", "tensorboard")
    assert scalars(at / "pretrain/p/seed0")["loss"] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert scalars(at / "finetune/mfm/seed0")["evaluation/top1"] == [(1, 75.5)]
    before = {path: path.read_bytes() for path in at.rglob("*") if path.is_file()}
    assert "0 with something new" in sent(folder, capsys, "--to", "tensorboard")
    assert {path: path.read_bytes() for path in at.rglob("*") if path.is_file()} == before


# MLflow


def test_mlflow_has_each_epoch_once(folder, capsys, tmp_path):
    pytest.importorskip("mlflow", reason="the extra `track` isn't installed")
    from mlflow import MlflowClient

    words = ("--to", "mlflow", "--at", str(tmp_path / "there/mlflow.db"))
    client = MlflowClient(f"sqlite:///{tmp_path / 'there/mlflow.db'}")

    def runs():
        experiment = client.get_experiment_by_name("mfm own").experiment_id
        return {run.info.run_name: run for run in client.search_runs([experiment])}

    def losses(name):
        history = client.get_metric_history(runs()[name].info.run_id, "loss")
        return sorted((each.step, each.value) for each in history)

    folder.goes_on(folder.pretraining, 3.0)
    assert "1 runs, 1 with something new" in sent(folder, capsys, *words)
    (first,) = runs().values()
    assert first.info.status == "RUNNING"
    folder.goes_on(folder.pretraining, 3.0, 2.0)
    folder.is_killed(folder.pretraining)
    sent(folder, capsys, *words)
    assert losses("pretrain/p/seed0") == [(1, 3.0), (2, 2.0)]
    assert runs()["pretrain/p/seed0"].info.status == "KILLED"
    # It goes on from a checkpoint before epoch 2, and takes another time for that one.
    folder.ends(folder.pretraining, 3.0, 2.0, 1.0, seconds=9.0)
    folder.ends(folder.finetuning, 1.0)
    folder.is_evaluated(75.5)
    assert "3 runs, 3 with something new" in sent(folder, capsys, *words)
    assert losses("pretrain/p/seed0") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    found = runs()
    assert set(found) == {"pretrain/p/seed0", "finetune/mfm/seed0", "experiment"}
    assert found["pretrain/p/seed0"].info.run_id == first.info.run_id
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["pretrain/p/seed0"].data.params["training.radius"] == "null"
    assert found["finetune/mfm/seed0"].data.metrics["evaluation/top1"] == 75.5
    kept = client.list_artifacts(found["experiment"].info.run_id)
    assert {each.path for each in kept} == {"results.csv", "table.md"}

    before = [(run.info.run_id, run.data.to_dictionary()) for run in runs().values()]
    assert "0 with something new" in sent(folder, capsys, *words)
    assert [(run.info.run_id, run.data.to_dictionary()) for run in runs().values()] == before

    # Trained again, with other numbers: one run, of the new ones.
    folder.ends(folder.pretraining, 3.0, 1.5, 0.5)
    assert "1 with something new" in sent(folder, capsys, *words)
    assert losses("pretrain/p/seed0") == [(1, 3.0), (2, 1.5), (3, 0.5)]
    assert len(runs()) == 3


def test_a_missing_client_is_told(folder, monkeypatch):
    folder.goes_on(folder.pretraining, 3.0)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install -c constraints\.txt mlflow-skinny"):
        track.main([str(folder.results), "--to", "mlflow"])


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no runs"):
        track.main([str(tmp_path), "--to", "tensorboard"])
    assert not list(tmp_path.iterdir())
