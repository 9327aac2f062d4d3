"""The workflow on folders of images: whole runs, killed ones, and datasets that are wrong."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import calls
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
        "finetune": {"batch": 12, "epochs": 1},
        "evaluate": {"resize": 36, "crop": 32},
    }
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(values | settings))
    words = [str(SNAKEMAKE), *targets, "--cores", "all", "--directory", str(folder)]
    return [*words, "--configfile", str(file)]


def run(words: list[str]):
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


@dataclass(frozen=True)
class Interrupted:
    """A call that was stopped by Ctrl-C, one that was killed, and one that went to its end."""

    folder: Path
    root: Path
    stopped: tuple[int, str]  # how the first ended, and what it said
    pretrained: int  # when, before the second was killed
    locked: bool
    done: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    root = photographs(folder / "own")
    words = own_images(folder, root, "results/own/table.md")
    results = folder / "results/own"
    process = subprocess.Popen(
        words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (results / "pretrain/mfm/seed0/.lock").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    stopped = process.returncode, said

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
    return Interrupted(
        folder=folder,
        root=root,
        stopped=stopped,
        pretrained=(results / "pretrain/mfm/seed0/backbone.safetensors").stat().st_mtime_ns,
        locked=bool(list((folder / ".snakemake/locks").iterdir())),
        done=run(words),
    )


def test_killed_and_started_again_it_completes_without_repeating(interrupted):
    code, said = interrupted.stopped
    assert code == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("mfm: error: pretrain pretraining=mfm seed=0: stopped by SIGINT ")

    done, results = interrupted.done, interrupted.folder / "results/own"
    assert interrupted.locked
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mfm: note: removed the lock of a Snakemake that was killed" in done.stderr
    assert "python -m mfm" not in done.stderr, "no shell text"
    sentence = (results / "table.md").read_text().split("**")[1]
    assert done.stderr.splitlines()[-1] == f"{sentence} (results/own/table.md)"
    backbone = results / "pretrain/mfm/seed0/backbone.safetensors"
    assert backbone.stat().st_mtime_ns == interrupted.pretrained


def test_own_images_are_linked_again_and_a_study_of_them_is_added(interrupted):
    folder, root = interrupted.folder, interrupted.root
    results = folder / "results/own"
    study = {"key": "finetune", "values": [{"fraction": 0.34, "batch": 4}]}
    settings = {"variants": {"labels": study}}
    pages = [f"results/own/{name}.md" for name in ("table", "dataset", "variants/labels")]
    done = run(own_images(folder, root, *pages, **settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "data/own/train").is_symlink()
    own = results / "variants/labels/batch-4_fraction-0.34"
    subset = own / "finetune/scratch/seed0/subset.txt"
    assert len(subset.read_text().splitlines()) == 4
    assert "batch-4_fraction-0.34" in (results / "variants/labels.md").read_text()
    assert "| mfm |" in (results / "table.md").read_text()

    # Linked again with an image that has gone bad, and once more when it is mended, elsewhere.
    manifest = folder / "data/own/manifest.parquet"
    before = manifest.read_bytes()
    relink = [*own_images(folder, root, "link_dataset", **settings)]
    relink += ["--forcerun", "link_dataset"]
    bad = root / "train/cats/bad.jpg"
    bad.touch()
    assert "cats/bad.jpg (zero bytes)" in run(relink).stderr
    assert manifest.read_bytes() == before
    bad.unlink()
    words = own_images(folder, root.rename(folder / "moved"), *pages[:2], **settings)
    models = list(results.rglob("*.safetensors")) + list(results.rglob("seed0.parquet"))
    times = {path: path.stat().st_mtime_ns for path in models}
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in models} == times
    assert str(folder / "moved") in (results / "dataset.json").read_text()
    everything = own_images(folder, folder / "moved", **settings)[1:]
    left = calls.snakemake(*everything, "-n", cwd=ROOT)
    assert "report_page" in left.stdout
    assert not re.search(r"^(pretrain|finetune|evaluate) +\d+$", left.stdout, re.M), left.stdout

    # A number that somebody mended by hand is no number.
    row = results / "evaluate/mfm/seed0.csv"
    row.write_text(re.sub(r"(mfm,mfm,0,0,)[^,]*", r"\g<1>99.48", row.read_text()))
    table = (results / "table.md").read_text()
    done = run(words)
    assert done.returncode != 0
    assert "evaluate/mfm/seed0.csv is not what its stage left" in done.stdout + done.stderr
    assert not (results / "table.md").exists() or (results / "table.md").read_text() == table


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
