"""Real training processes: any number of ranks, bad input, and what a run leaves."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import PIL
import pytest
import safetensors.torch
import torch

from mfm.data.linking import manifest
from mfm.data.sources import generated
from mfm.errors import UserError
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.settings import Classification
from mfm.experiment.jobs import FinetuneJob, PretrainJob, load_training
from mfm.processes.ranks import Process
from mfm.settings.section import config_hash, dumps, parse
from mfm.training import run as training_run
from mfm.training.operation import Operation

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generated.export(folder)
    manifest.write(folder)
    return folder / "manifest.parquet"


def write_config(
    folder: Path, *, stage="pretrain", backbone="resnet10t", split="train", **training
) -> Path:
    dataset = {"name": "tiny", "image_size": 32}
    common = {"dataset": dataset, "model": {"backbone": backbone}}
    if stage == "pretrain":
        training = {"task": "mfm", "batch": 32, "precision": "fp32", **training}
        run = PretrainJob(name="mfm", training=training, split=split, **common)
    else:
        training = {"batch": 32, "precision": "fp32", **training}
        common |= {"arm": "a", "source": "scratch", "curve": "val"}
        run = FinetuneJob(seed=3, training=training, **common)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(dumps(run))
    return path


def command(run: Path, dataset: Path, *, ranks=1, stage="pretrain", weights="scratch", workers=0):
    words = [sys.executable, "-m", "mfm", "launch", "--standalone", "--nproc-per-node", str(ranks)]
    words += ["-m", "mfm", "train", "--config", str(run / "config.json")]
    words += ["--manifest", str(dataset), "--folder", str(run), "--workers", str(workers)]
    return words + (["--weights", weights] if stage == "finetune" else [])


def train(run, dataset, environment, **options):
    done = subprocess.run(
        command(run, dataset, **options), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train_here(run: Path, dataset: Path, *, weights="scratch", **operated):
    """The same of a single rank, in this process."""
    training_run.run(
        load_training(run / "config.json"),
        config=run / "config.json",
        weights=weights,
        manifest_path=dataset,
        operation=Operation(run=run, workers=0, checkpoint_epochs=1, **operated),
        process=Process(rank=0, world=1, device=torch.device("cpu")),
    )


def losses(run: Path):
    with open(run / "metrics.csv") as file:
        return [(row["epoch"], row["loss"], row["lr"]) for row in csv.DictReader(file)]


def final(run: Path, name="backbone.safetensors"):
    return safetensors.torch.load_file(run / name)


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_ranks_and_accumulation_do_not_change_the_result(tmp_path, dataset, child_environment):
    # A backbone without batch norm, whose statistics would differ by rank.
    settings = {
        "backbone": "convnext_atto",
        "epochs": 1,
        "batch": 24,
        "mixup": 0.2,
        "cutmix": 1.0,
        "optimizer": {"name": "sgd", "lr": 0.05, "lr_batch": 32, "weight_decay": 0.0},
    }
    # (ranks, micro-batch): accumulation of 1, 2 and 3
    runs = {"one": (1, 24), "three ranks": (3, 4), "accumulated": (1, 8)}
    for name, (ranks, micro_batch) in runs.items():
        write_config(
            tmp_path / name, stage="finetune", ranks=ranks, micro_batch=micro_batch, **settings
        )
        if ranks > 1:
            train(tmp_path / name, dataset, child_environment, ranks=ranks, stage="finetune")
        else:
            train_here(tmp_path / name, dataset)
    one = final(tmp_path / "one", "model.safetensors")
    for name in ("three ranks", "accumulated"):
        other = final(tmp_path / name, "model.safetensors")
        for key in one:
            torch.testing.assert_close(other[key], one[key], rtol=1e-3, atol=1e-5)
        ours, theirs = losses(tmp_path / name)[0], losses(tmp_path / "one")[0]
        assert float(ours[1]) == pytest.approx(float(theirs[1]), rel=1e-5)


def test_a_restoration_is_the_same_with_accumulation(tmp_path, dataset, capsys):
    settings = {
        "task": "denoise",
        "backbone": "convnext_atto",
        "epochs": 1,
        "reconstructions": 2,
        "optimizer": {"name": "sgd", "lr": 0.05, "lr_batch": 32, "weight_decay": 0.0},
    }
    for name, micro_batch in {"one": 32, "four": 8}.items():
        write_config(tmp_path / name, micro_batch=micro_batch, **settings)
        train_here(tmp_path / name, dataset)
        assert "denoising, sigma 75 of 255" in capsys.readouterr().out
        assert list((tmp_path / name / "snapshots").iterdir())
    one, four = final(tmp_path / "one"), final(tmp_path / "four")
    for key in one:
        torch.testing.assert_close(four[key], one[key], rtol=1e-3, atol=1e-5)
    ours, theirs = losses(tmp_path / "four")[0], losses(tmp_path / "one")[0]
    assert float(ours[1]) == pytest.approx(float(theirs[1]), rel=1e-5)


def test_workers_end_with_their_launcher(tmp_path, dataset, child_environment):
    run = tmp_path / "run"
    write_config(run, epochs=500, ranks=2)
    process = subprocess.Popen(
        command(run, dataset, ranks=2), env=child_environment, start_new_session=True
    )
    while not list(run.glob("rolling/epoch*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while writers_of(run):
        assert time.monotonic() < deadline, "workers outlived their launcher"
        time.sleep(0.1)


def writers_of(run: Path):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(run) in words and state != "Z":
            found.append(folder.name)
    return found


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("other", "are of another model"),
        ("pickle", "could run code"),
    ],
)
def test_wrong_weights_end_in_one_line(tmp_path, dataset, weights, expected):
    path = tmp_path / f"{weights}.pth"
    if weights == "other":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    else:
        torch.save({"model": Dangerous(str(tmp_path / "ran"))}, path)
    run = tmp_path / "run"
    write_config(run, stage="finetune")
    with pytest.raises(UserError, match=rf"\A.*{expected}.*\Z"):
        train_here(run, dataset, weights=str(path))
    assert not (tmp_path / "ran").exists()


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_that_does_not_fit_ends_in_one_line(tmp_path, dataset, child_environment):
    # A limit on file size, which needs no right to mount a small file system, stops the write as
    # a full disk does: in the middle.
    run = tmp_path / "run"
    write_config(run, epochs=3)
    limit = 30_000_000  # bytes: below the checkpoint's 65 MB
    words = ["bash", "-c", f'ulimit -f {limit // 1024}; exec "$@"', "limited"]
    done = subprocess.run(
        words + command(run, dataset), env=child_environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "free some space" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    left = {path.name for path in (run / "rolling").iterdir()}
    assert left - {"status.json"} == {"metrics.csv"}, "no torn file is left"
    train_here(run, dataset)


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, dataset):
    """A finished finetuning, and its configuration."""
    run = tmp_path_factory.mktemp("finetuned")
    path = write_config(run, stage="finetune", epochs=1, images_per_class=8)
    train_here(run, dataset)
    return run, parse(FinetuneJob, json.loads(path.read_text()), where="test")


def test_evaluation_on_two_ranks_counts_every_image_once(
    tmp_path, dataset, finetuned, child_environment
):
    run, resolved = finetuned
    stage = EvaluateJob(
        dataset=resolved.dataset,
        model=resolved.model,
        mean=resolved.training.mean,
        std=resolved.training.std,
        evaluation=Classification(batch=10),  # 48 images: neither rank's last batch is full
    )
    (tmp_path / "evaluate.json").write_text(dumps(stage))
    launch = ["-m", "mfm", "launch", "--standalone", "--nproc-per-node", "2"]
    found = []
    for name, words in (("alone", []), ("two", launch)):
        command = [sys.executable, *words, "-m", "mfm", "evaluate"]
        command += ["--config", str(tmp_path / "evaluate.json"), "--manifest", str(dataset)]
        command += ["--weights", str(run / "model.safetensors")]
        command += ["--csv", str(tmp_path / f"{name}.csv")]
        command += ["--predictions", str(tmp_path / f"{name}.parquet")]
        subprocess.run(command, env=child_environment, check=True)
        found.append(pd.read_parquet(tmp_path / f"{name}.parquet"))
    pd.testing.assert_frame_equal(*found)
    assert found[0]["path"].nunique() == len(found[0]) == 48
    assert (tmp_path / "alone.csv").read_text() == (tmp_path / "two.csv").read_text()


def test_metadata_says_what_made_the_weights(finetuned):
    run, resolved = finetuned
    with safetensors.safe_open(run / "model.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["mfm"])
    assert metadata["config_hash"] == config_hash(resolved)
    assert metadata["train_images"] == "32"
    assert metadata["pillow"] == PIL.__version__
    assert metadata["torch"] == torch.__version__
    assert (metadata["loader"], metadata["dali"]) == ("torchvision", "-")
    assert metadata["precision"] == "fp32"
    assert metadata["hardware"]
    subset = (run / "subset.txt").read_text().splitlines()
    assert len(subset) == len(set(subset)) == 32


def test_unlabelled_images_are_pretrained_on_by_mfm_alone(tmp_path, capsys):
    folder = tmp_path / "data"
    generated.export(folder)
    (folder / "pretrain").mkdir()
    for number, path in enumerate(sorted((folder / "val").rglob("*.png"))[:32]):
        (folder / f"pretrain/{number}.png").hardlink_to(path)
    manifest.write(folder, splits=("train", "val", "pretrain"))
    for task, images in (("mfm", 32), ("supervised", 128)):
        run = tmp_path / task
        write_config(run, epochs=1, task=task, split="pretrain" if task == "mfm" else "train")
        train_here(run, folder / "manifest.parquet")
        assert f"{images} images, batch 32" in capsys.readouterr().out
