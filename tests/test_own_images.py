"""The workflow on folders of images: whole runs, killed ones, and datasets that are wrong."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from photographs import photographs

pytestmark = pytest.mark.processes
SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def own_images(folder: Path, root: Path, *targets: str, **settings) -> list[str]:
    """Command of the workflow on an image folder, with a configuration that stands alone."""
    values = {
        "results": "results/own",
        "seeds": [0],
        "dataset": {"name": "own", "source": str(root), "image_size": 32},
        "model": {"backbone": "resnet10t"},
        "pretrain": {"mfm": {"task": "mfm", "epochs": 1, "batch": 4}},
        "arms": {"scratch": "scratch", "mfm": {"pretrain": "mfm"}},
        "finetune": {"batch": 4, "epochs": 1},
        "evaluate": {"resize": 36, "crop": 32},
    }
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(values | settings))
    words = [str(SNAKEMAKE), *targets, "--cores", "all", "--directory", str(folder)]
    return [*words, "--configfile", str(file)]


def run(words: list[str]):
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


def test_own_images_run_to_the_table(tmp_path):
    root = photographs(tmp_path / "own")
    study = {"key": "finetune", "values": [{"fraction": 0.34, "batch": 4}]}
    settings = {"variants": {"labels": study}, "finetune": {"batch": 12, "epochs": 1}}
    done = run(own_images(tmp_path, root, **settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data/own/train").is_symlink()
    results = tmp_path / "results/own"
    own = results / "variants/labels/batch-4_fraction-0.34"
    subset = own / "finetune/scratch/seed0/subset.txt"
    assert len(subset.read_text().splitlines()) == 4
    assert "batch-4_fraction-0.34" in (results / "variants/labels.md").read_text()
    assert "| mfm |" in (results / "table.md").read_text()

    # Linked again with an image that has gone bad, and once more when it is mended, elsewhere.
    manifest = tmp_path / "data/own/manifest.parquet"
    before = manifest.read_bytes()
    relink = [*own_images(tmp_path, root, "link_dataset", **settings)]
    relink += ["--forcerun", "link_dataset"]
    bad = root / "train/cats/bad.jpg"
    bad.touch()
    assert "cats/bad.jpg (zero bytes)" in run(relink).stderr
    assert manifest.read_bytes() == before
    bad.unlink()
    words = own_images(tmp_path, root.rename(tmp_path / "moved"), **settings)
    models = list(results.rglob("*.safetensors")) + list(results.rglob("seed0.parquet"))
    times = {path: path.stat().st_mtime_ns for path in models}
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in models} == times
    assert str(tmp_path / "moved") in (results / "dataset.json").read_text()

    # A number that somebody mended by hand is no number.
    row = results / "evaluate/mfm/seed0.csv"
    row.write_text(re.sub(r"(mfm,mfm,0,0,)[^,]*", r"\g<1>99.48", row.read_text()))
    table = (results / "table.md").read_text()
    done = run(words)
    assert done.returncode != 0
    assert "evaluate/mfm/seed0.csv is not what its stage left" in done.stdout + done.stderr
    assert not (results / "table.md").exists() or (results / "table.md").read_text() == table


def test_killed_and_started_again_it_completes_without_repeating(tmp_path):
    root = photographs(tmp_path / "own")
    words = own_images(tmp_path, root, "results/own/table.md")
    results = tmp_path / "results/own"
    process = subprocess.Popen(
        words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (results / "pretrain/mfm/seed0/.lock").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("mfm: error: pretrain pretraining=mfm seed=0: stopped by SIGINT ")

    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (results / "pretrain/mfm/seed0/backbone.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    while not list(results.glob("finetune/mfm/*/.lock")):  # it starts from the pretraining
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pretrained = (results / "pretrain/mfm/seed0/backbone.safetensors").stat().st_mtime_ns
    assert list((tmp_path / ".snakemake/locks").iterdir())
    done = run(words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mfm: note: removed the lock of a Snakemake that was killed" in done.stderr
    assert "python -m mfm" not in done.stderr, "no shell text"
    sentence = (results / "table.md").read_text().split("**")[1]
    assert done.stderr.splitlines()[-1] == f"{sentence} (results/own/table.md)"
    assert (results / "pretrain/mfm/seed0/backbone.safetensors").stat().st_mtime_ns == pretrained


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda root: (root / "train/cats/0.jpg").write_bytes(b""), "0.jpg"),
        (lambda root: shutil.copytree(root / "val/cats", root / "val/birds"), "birds"),
    ],
)
def test_a_wrong_dataset_ends_in_one_line_before_training(tmp_path, damage, expected):
    root = photographs(tmp_path / "own")
    damage(root)
    done = run(own_images(tmp_path, root))
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "mfm: error:" in line]
    assert len(lines) == 1
    assert expected in lines[0]
    assert done.stderr.splitlines()[-1] == lines[0]
    assert not list((tmp_path / "results").rglob("*.safetensors"))
