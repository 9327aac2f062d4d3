"""The workflow itself: real runs of configs/tiny.yaml in a folder of their own."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from PIL import Image

from mfm.models.metadata import read_metadata

pytestmark = pytest.mark.processes
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
TABLE = "results/tiny/table.md"
COLUMNS = (
    "init,pretrain,seed,top1,top5,loss,images,epochs,train_images,images_per_second,seconds,"
    "code_version,config_hash,checkpoint"
)


def snakemake(folder: Path, *words: str, config: tuple[str, ...] = (), check=True):
    command = [str(SNAKEMAKE), *words, "--cores", "all", "--directory", str(folder)]
    command += ["--configfile", str(ROOT / "configs/tiny.yaml")]
    command += ["--config", *config] if config else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def planned(folder: Path, *words: str, config: tuple[str, ...] = ()) -> dict[str, int]:
    """Number of jobs by rule that a call would run."""
    done = snakemake(folder, *words, "--dry-run", config=config)
    text = done.stdout + done.stderr
    block = re.search(r"^Job stats:\n(.*?)^total", text, re.M | re.S)
    if block is None:
        assert "Nothing to be done" in text
        return {}
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", block.group(1), re.M)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the whole workflow. Tests that use it leave it finished."""
    folder = tmp_path_factory.mktemp("tiny")
    snakemake(folder)
    return folder


def test_the_whole_workflow_leaves_every_artifact(finished):
    results = finished / "results/tiny"
    rows = pd.read_csv(results / "results.csv")
    assert ",".join(rows.columns) == COLUMNS
    arms = [(init, seed) for init in ("scratch", "supervised", "mfm") for seed in (0, 1)]
    assert list(zip(rows["init"], rows["seed"], strict=True)) == arms
    assert (rows["images"] == 48).all()
    assert (rows["train_images"] == 64).all()
    assert rows["top1"].between(0, 100).all()
    assert rows["code_version"].nunique() == 1
    assert rows["config_hash"].nunique() == 6
    for path in rows["checkpoint"]:
        assert (finished / path).is_file()
    table = (results / "table.md").read_text()
    for part in ("| scratch |", "| supervised |", "| mfm |", "not comparable", "78.826"):
        assert part in table
    assert "Warning" not in table
    metadata = read_metadata(results / "finetune/mfm/seed0/model.safetensors")
    for key in ("code_version", "loader", "torch", "pillow", "hardware"):
        assert metadata[f"initial_{key}"] == metadata[key]
    for link in re.findall(r"\]\(([^)]+)\)", table):
        assert (results / link).is_file(), link
    assert "## From the runs here" in (results / "plan.md").read_text()
    assert "| train | 128 |" in (results / "dataset.md").read_text()
    for name in ("backbone.safetensors", "checkpoint.pt", "metrics.csv"):
        assert (results / "pretrain/mfm" / name).is_file()
    for name in ("reconstructions", "spectra", "epochs"):
        with Image.open(results / f"pretrain/mfm/{name}.png") as figure:
            assert min(figure.size) > 200
    losses = pd.read_csv(results / "pretrain/mfm/fixed_images.csv")
    assert (losses["epoch"].min(), losses["epoch"].max()) == (0, 1)
    assert losses.notna().all(axis=None)
    curve = pd.read_csv(results / "finetune/mfm/seed0/accuracy.csv")
    assert curve["epoch"].tolist() == [0, 1, 2]
    page = (results / "report.html").read_text()
    for part in (*rows["config_hash"], "78.826", "images_per_class"):
        assert part in page
    predictions = pd.read_parquet(results / "evaluate/mfm/seed0.parquet")
    assert predictions["path"].nunique() == 48
    top1 = rows[(rows["init"] == "mfm") & (rows["seed"] == 0)]["top1"].item()
    hits = (predictions["label"] == predictions["prediction"]).mean()
    assert 100 * hits == pytest.approx(top1, abs=1e-3)
    assert not list(results.rglob("rolling"))


def test_two_ranks_pretrained(finished):
    log = (finished / "results/tiny/logs/pretrain/mfm.log").read_text()
    assert "2 ranks" in log


def test_a_second_call_does_nothing(finished):
    assert planned(finished) == {}


def test_the_finetuning_rate_reruns_finetuning_but_no_pretraining(finished):
    jobs = planned(finished, TABLE, config=("finetune={optimizer: {lr: 0.002}}",))
    assert jobs == {
        "finetune_config": 6,
        "finetune_run": 6,
        "evaluate_run": 6,
        "results": 1,
        "plan": 1,
        "table": 1,
    }


def test_another_image_size_does_not_link_again(finished):
    jobs = planned(finished, TABLE, config=("dataset={image_size: 64}",))
    assert jobs["finetune_run"] == 6
    assert not {"dataset_config", "link_dataset"} & jobs.keys()


def test_a_new_seed_runs_only_that_seed(finished):
    jobs = planned(finished, TABLE, config=("seeds=[0, 1, 2]",))
    assert jobs == {
        "finetune_config": 3,
        "finetune_run": 3,
        "evaluate_run": 3,
        "results": 1,
        "plan": 1,
        "table": 1,
    }


def test_other_amounts_of_labels_share_what_the_table_has(finished):
    amounts = "label_efficiency=[{images_per_class: 16}, {fraction: 0.25, batch: 16}]"
    assert planned(finished, config=(amounts,)) == {
        "finetune_config": 6,
        "finetune_run": 6,
        "evaluate_run": 6,
        "label_efficiency": 1,
        "report_page": 1,
        "all": 1,
    }
    assert planned(finished, TABLE, config=(amounts,)) == {}
    target = "results/tiny/label_efficiency.md"
    shared = ("label_efficiency=[{images_per_class: 16}]",)
    assert planned(finished, target, config=shared) == {"label_efficiency": 1}
    snakemake(finished, target, config=shared)
    text = (finished / target).read_text()
    assert "## mfm against the other arms" in text
    top1 = pd.read_csv(finished / "results/tiny/results.csv").groupby("init")["top1"].mean()
    assert f"| mfm | **{top1['mfm']:.2f}** |" in text
    assert (finished / "results/tiny/label_efficiency.png").is_file()


def test_ablations_share_what_the_table_has(finished):
    def jobs(values: str) -> dict[str, int]:
        return planned(finished, config=(f"ablations={{{values}}}",))

    tables = {"ablation": 1, "report_page": 1, "all": 1}
    assert jobs("val_resize: [32, 36]") == {
        "ablation_resize_config": 1,
        "ablation_resize_run": 6,
        "resize_figure": 1,
        **tables,
    }
    six = {"finetune_config": 6, "finetune_run": 6, "evaluate_run": 6}
    assert jobs("loss: [ce]") == six | tables
    assert jobs("crop_area: [0.67, 0.2], pretrain_seeds: [1]") == {
        "pretrain_config": 2,
        "pretrain_run": 2,
        "finetune_config": 4,
        "finetune_run": 4,
        "evaluate_run": 4,
        "ablation": 2,
        "report_page": 1,
        "all": 1,
    }
    # Its only value is the table's own.
    target = "results/tiny/ablation_loss.md"
    snakemake(finished, target, config=("ablations={loss: [bce]}",))
    text = (finished / target).read_text()
    top1 = pd.read_csv(finished / "results/tiny/results.csv").groupby("init")["top1"].mean()
    assert f"| **bce** | mfm | {top1['mfm']:.2f} |" in text


def test_an_arm_from_scratch_that_is_trained_longer_runs_alone(finished):
    arm = ("arms={scratch-long: {as_long_as: mfm, seeds: [1]}}",)
    jobs = planned(finished, TABLE, config=arm)
    assert jobs == {
        "longer_config": 1,
        "finetune_run": 1,
        "evaluate_run": 1,
        "results": 1,
        "plan": 1,
        "table": 1,
    }
    config = "results/tiny/finetune/scratch-long/seed1/config.json"
    snakemake(finished, config, config=arm)
    text = (finished / config).read_text()
    assert json.loads(text)["training"]["epochs"] == 2 + 2  # 128 images once, 64 an epoch


def test_the_plan_asked_for_alone_runs_nothing_else(finished, tmp_path):
    assert planned(tmp_path, "plan") == planned(finished, "plan") == {"plan": 1}
    before = (finished / "results/tiny/plan.md").read_text()
    snakemake(tmp_path, "plan")
    text = (tmp_path / "results/tiny/plan.md").read_text()
    assert "## Before there are runs" in text
    assert "found with the 2 seeds configured" in text
    assert not (tmp_path / "data").exists()
    snakemake(finished, "plan")
    assert (finished / "results/tiny/plan.md").read_text() == before
    snakemake(finished)  # the plan's inputs are recorded again


def test_an_evaluation_setting_reruns_evaluation_alone(finished):
    jobs = planned(finished, TABLE, config=("evaluate={resize: 36}",))
    assert jobs == {"evaluate_config": 1, "evaluate_run": 6, "results": 1, "plan": 1, "table": 1}


def test_stages_can_be_asked_for_and_forced_by_name(finished):
    for stage in ("pretrain", "finetune", "evaluate"):
        assert planned(finished, stage) == {}
    assert planned(finished, "evaluate", "-f") == {"evaluate": 1, "evaluate_run": 6}
    jobs = planned(finished, TABLE, "--forcerun", "pretrain")
    assert jobs["pretrain_run"] == 2
    assert jobs["finetune_run"] == 4, "the arm from scratch does not start from a pretraining"


def test_a_deleted_evaluation_reruns_with_the_table_alone(finished):
    results = finished / "results/tiny"
    before = (results / "results.csv").read_text()
    (results / "evaluate/mfm/seed1.csv").unlink()
    assert planned(finished, TABLE) == {"evaluate_run": 1, "results": 1, "plan": 1, "table": 1}
    snakemake(finished, TABLE)
    assert (results / "results.csv").read_text() == before


def test_forced_pretraining_trains_again_to_the_same_bits(finished):
    run = finished / "results/tiny/pretrain/mfm"
    before = (run / "backbone.safetensors").read_bytes()
    written = (run / "backbone.safetensors").stat().st_mtime_ns
    snakemake(finished, str((run / "backbone.safetensors").relative_to(finished)), "--force")
    assert (run / "backbone.safetensors").read_bytes() == before
    assert (run / "backbone.safetensors").stat().st_mtime_ns > written
    # The same bytes, but too many for Snakemake to compare: it would go on to finetuning.
    snakemake(finished, "--touch")
    assert planned(finished) == {}


def test_report_is_written_with_the_table(finished):
    snakemake(finished, "--report", "report.html")
    text = (finished / "report.html").read_text()
    for part in ("Comparison", "Pretraining", "Training", "difference from the baseline"):
        assert part in text


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("finetune={epohcs: 3}", "unknown key 'finetune.epohcs' (did you mean 'epochs'?)"),
        ("finetune={epochs: 0}", "finetune.epochs"),
        ("dataset={source: /nowhere/at/all}", "dataset.source: '/nowhere/at/all'"),
        ("arms={other: {weights: /nowhere/w.pth}}", "there is no file /nowhere/w.pth"),
        ("arms={other: {pretrain: mmf}}", "did you mean 'mfm'?"),
    ],
)
def test_a_wrong_configuration_ends_in_one_line_before_any_job(tmp_path, setting, expected):
    done = snakemake(tmp_path, config=(setting,), check=False)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert expected in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("finetune={images_per_class: 33}", "finetune.images_per_class is 33, but class checks"),
        ("pretrain={mfm: {batch: 130}}", "pretrain.mfm.batch is 130"),
    ],
)
def test_too_few_images_end_in_one_line_before_any_job(finished, setting, expected):
    done = snakemake(finished, "--dry-run", config=(setting,), check=False)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    # The images may have changed: linking them again finds out.
    forced = snakemake(finished, "--dry-run", "--forcerun", "link_dataset", config=(setting,))
    assert "link_dataset" in forced.stdout


def test_finished_runs_are_not_overwritten_by_another_dataset(finished):
    images = photographs(finished / "other")
    settings = (f"dataset={{name: other, source: {images}}}",)
    done = snakemake(finished, "--dry-run", config=settings, check=False)
    assert done.returncode != 0
    assert "set results to another folder" in done.stderr


def photographs(root: Path) -> Path:
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("cats", "dogs")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                colour = (40 * number, 200 * label, 90)
                image = Image.new("RGB", (50 + number, 64), colour)
                image.save(folder / f"{number}.jpg")
    return root


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
    amounts = [{"fraction": 0.34, "batch": 4}]
    done = run(own_images(tmp_path, root, label_efficiency=amounts))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data/own/train").is_symlink()
    results = tmp_path / "results/own"
    subset = results / "label_efficiency/34-percent/finetune/scratch/seed0/subset.txt"
    assert len(subset.read_text().splitlines()) == 4
    assert "| 34-percent | 4 | scratch |" in (results / "label_efficiency.md").read_text()
    assert "| mfm |" in (results / "table.md").read_text()

    # Linked again with an image that has gone bad, and once more when it is mended.
    manifest = tmp_path / "data/own/manifest.parquet"
    before = manifest.read_bytes()
    relink = [*own_images(tmp_path, root, "link_dataset", label_efficiency=amounts)]
    relink += ["--forcerun", "link_dataset"]
    bad = root / "train/cats/bad.jpg"
    bad.touch()
    assert "cats/bad.jpg (zero bytes)" in run(relink).stderr
    assert manifest.read_bytes() == before
    bad.unlink()
    assert run(relink).returncode == 0
    done = run([*own_images(tmp_path, root, label_efficiency=amounts), "--dry-run"])
    assert "Nothing to be done" in done.stdout + done.stderr


def test_killed_and_started_again_it_completes_without_repeating(tmp_path):
    root = photographs(tmp_path / "own")
    words = own_images(tmp_path, root, "results/own/table.md")
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    results = tmp_path / "results/own"
    while not (results / "pretrain/mfm/backbone.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    while not list(results.glob("finetune/*/*/.lock")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pretrained = (results / "pretrain/mfm/backbone.safetensors").stat().st_mtime_ns
    unlock = subprocess.run(
        [sys.executable, str(ROOT / "workflow/scripts/unlock.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "killed" in unlock.stdout, unlock.stdout + unlock.stderr
    done = run(words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (results / "table.md").is_file()
    assert (results / "pretrain/mfm/backbone.safetensors").stat().st_mtime_ns == pretrained


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
    assert not list((tmp_path / "results").rglob("*.safetensors"))
