"""The workflow itself: real runs of configs/tiny.yaml in a folder of their own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import calls
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from photographs import photographs
from PIL import Image

from mfm.commands import plan
from mfm.evaluation.results import read_results
from mfm.models.metadata import read_metadata

pytestmark = pytest.mark.processes
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
TABLE = "results/tiny/table.md"
QUESTION = "results/tiny/question.csv"
COLUMNS = (
    "arm,pretraining,pretraining_seed,seed,top1,top5,loss,images,epochs,train_images,images_per_second,seconds,"
    "code_version,config_hash,checkpoint"
)
# Laid over configs/tiny.yaml.
ASKED = {
    "pretrain": {"mfm": {"seeds": [1, 0]}, "supervised": {"ranks": 1}},
    "question": {"arm": "mfm", "baseline": "scratch"},
}


def snakemake(
    folder: Path, *words: str, config: tuple[str, ...] = (), more=None, check=True, alone=False
):
    """A call of Snakemake: `alone` in a process of its own, or in this one, but for its jobs."""
    words = (*words, "--cores", "all", "--directory", str(folder))
    words += ("--configfile", str(ROOT / "configs/tiny.yaml"))
    for name, values in {"asked": ASKED, "more": more}.items():
        if values is not None:
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
            words += (str(folder / f"{name}.yaml"),)
    words += ("--config", *config) if config else ()
    if alone:
        done = subprocess.run([SNAKEMAKE, *words], cwd=ROOT, capture_output=True, text=True)
    else:
        done = calls.snakemake(*words, cwd=ROOT)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def planned(folder: Path, *words: str, config: tuple[str, ...] = (), more=None) -> dict[str, int]:
    """Number of jobs by rule that a call would run."""
    done = snakemake(folder, *words, "--dry-run", config=config, more=more)
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
    # Asked in another way first: that the question changed keeps nothing else from running.
    snakemake(folder, QUESTION, config=("question={baseline: supervised}",))
    (folder / "stderr.txt").write_text(snakemake(folder, alone=True).stderr)
    return folder


def test_the_whole_workflow_leaves_every_artifact(finished):
    results = finished / "results/tiny"
    rows = read_results(results / "results.csv")
    assert ",".join(rows.columns) == COLUMNS
    arms = [(arm, seed) for arm in ("scratch", "supervised", "mfm") for seed in (0, 1)]
    assert list(zip(rows["arm"], rows["seed"], strict=True)) == arms
    assert rows["pretraining_seed"].tolist() == ["-", "-", "0", "0", "1", "0"]
    assert (rows["images"] == 48).all()
    assert (rows["train_images"] == 64).all()
    assert rows["top1"].between(0, 100).all()
    assert rows["code_version"].nunique() == 1
    assert rows["config_hash"].nunique() == 6
    for path in rows["checkpoint"]:
        assert (finished / path).is_file()
    table = (results / "table.md").read_text()
    for part in (
        "| scratch |",
        "| supervised (all 128 labels) |",
        "| mfm |",
        "not comparable",
        "78.826",
    ):
        assert part in table
    assert "Warning" not in table
    metadata = read_metadata(results / "finetune/mfm/seed0/model.safetensors")
    for key in ("code_version", "loader", "torch", "pillow", "hardware"):
        assert metadata[f"initial_{key}"] == metadata[key]
    assert (metadata["seed"], metadata["initial_seed"]) == ("0", "1")
    for link in re.findall(r"\]\(([^)]+)\)", table):
        assert (results / link).is_file(), link
    assert "## mfm less scratch (the question)" in (results / "plan.md").read_text()
    assert "| train | 128 |" in (results / "dataset.md").read_text()
    for name in ("backbone.safetensors", "checkpoint.pt", "metrics.csv"):
        for seed in (0, 1):
            assert (results / f"pretrain/mfm/seed{seed}" / name).is_file()
    for name in ("reconstructions", "spectra", "epochs"):
        with Image.open(results / f"pretrain/mfm/seed0/pictures/{name}.png") as figure:
            assert min(figure.size) > 200
    losses = pd.read_csv(results / "losses.csv")
    assert (losses["epoch"].min(), losses["epoch"].max()) == (0, 1)
    assert losses.notna().all(axis=None)
    assert set(losses["seed"]) == {0, 1}
    # One epoch of 128 images is too short: the table says so.
    assert "Hardly learned: the loss of mfm from low frequencies is" in table
    curve = pd.read_csv(results / "finetune/mfm/seed0/accuracy.csv")
    assert curve["epoch"].tolist() == [0, 1, 2]
    page = (results / "report.html").read_text()
    for part in (*rows["config_hash"], "78.826", "images_per_class"):
        assert part in page
    predictions = pd.read_parquet(results / "evaluate/mfm/seed0.parquet")
    assert predictions["path"].nunique() == 48
    top1 = rows[(rows["arm"] == "mfm") & (rows["seed"] == 0)]["top1"].item()
    hits = (predictions["label"] == predictions["prediction"]).mean()
    assert 100 * hits == pytest.approx(top1, abs=1e-3)
    assert not list(results.rglob("rolling"))


def test_the_question_is_declared_before_the_first_training_and_the_look_counted(finished):
    declared = pd.read_csv(finished / QUESTION)
    assert declared["baseline"].tolist() == ["supervised", "scratch"]
    assert (declared[["runs", "pretrainings", "finished"]] == [2, 2, 0]).all(axis=None)
    counted = pd.read_csv(finished / "data/tiny/looks.csv")
    assert counted[["split", "results"]].to_numpy().tolist() == [["val", "results/tiny"]]


def test_what_to_know_before_is_said_once_and_by_no_job(finished, tmp_path):
    said = [line for line in (finished / "stderr.txt").read_text().splitlines() if "note:" in line]
    assert [line.split(": ")[:3] for line in said] == [
        ["mfm", "note", "pretrain.mfm"],
        ["mfm", "note", "question"],
    ]
    for log in (finished / "results/tiny/logs").rglob("*.log"):
        assert "mfm: note:" not in log.read_text(), log
    # A cluster's job reads the workflow again.
    assert "mfm: note:" not in snakemake(tmp_path, TABLE, "--dry-run", "--mode", "remote").stderr


def test_two_ranks_pretrained(finished):
    log = (finished / "results/tiny/logs/pretrain/mfm/seed0.log").read_text()
    assert "2 ranks" in log


def test_a_second_call_does_nothing(finished):
    assert planned(finished) == {}


def test_the_finetuning_rate_reruns_finetuning_but_no_pretraining(finished):
    jobs = planned(finished, TABLE, config=("finetune={optimizer: {lr: 0.002}}",))
    assert jobs == {
        "finetune_config": 6,
        "finetune": 6,
        "evaluate": 6,
        "results": 1,
        "plan": 1,
        "table": 1,
    }


def test_another_image_size_does_not_link_again(finished):
    jobs = planned(finished, TABLE, config=("dataset={image_size: 64}",))
    assert jobs["finetune"] == 6
    assert not {"dataset_config", "link_dataset"} & jobs.keys()


def test_another_question_trains_and_evaluates_nothing_again(finished):
    asks = "question={arm: supervised, runs: 3}"
    assert planned(finished, TABLE, config=(asks,)) == {"question": 1, "plan": 1, "table": 1}
    assert planned(finished, TABLE, more={"question": None}) == {"plan": 1, "table": 1}


def test_another_pretraining_seed_runs_the_finetunings_that_start_from_another_one(finished):
    def jobs(seeds: str) -> dict[str, int]:
        config = (f"pretrain={{mfm: {{seeds: {seeds}}}}}",)
        return planned(finished, "results/tiny/dataset.md", TABLE, config=config)

    # Two finetunings start from the first two of three: as before.
    assert jobs("[1, 0, 7]") == {"plan": 1, "table": 1}
    tables = {"results": 1, "plan": 1, "table": 1}
    assert jobs("[0, 1]") == {"finetune": 2, "evaluate": 2} | tables
    new = {"pretrain_config": 1, "pretrain": 1, "finetune": 1, "evaluate": 1}
    assert jobs("[7, 0]") == new | {"losses": 1} | tables


def test_a_new_seed_runs_only_that_seed(finished):
    jobs = planned(finished, TABLE, config=("seeds=[0, 1, 2]",))
    assert jobs == {
        "question": 1,  # of one run more
        "finetune_config": 3,
        "finetune": 3,
        "evaluate": 3,
        "results": 1,
        "plan": 1,
        "table": 1,
    }


def test_variants_share_what_the_table_has(finished):
    def jobs(key: str, *values: object) -> dict[str, int]:
        return planned(finished, more={"variants": {"s": {"key": key, "values": list(values)}}})

    pages = {"variants": 1, "report_page": 1, "default": 1}
    six = {"finetune_config": 6, "finetune": 6, "evaluate_config": 1, "evaluate": 6}
    quarter = {"images_per_class": None, "fraction": 0.25, "batch": 16}
    assert jobs("finetune", {"images_per_class": 16}, quarter) == six | pages
    assert jobs("evaluate.resize", 32, 36) == {"evaluate_config": 1, "evaluate": 6} | pages
    # Two of three arms have nothing to do with it.
    assert jobs("pretrain.mfm.crop.area", [0.67, 1.0]) == {
        "pretrain_config": 2,
        "pretrain": 2,
        "finetune_config": 2,
        "finetune": 2,
        "evaluate_config": 1,
        "evaluate": 2,
        **pages,
    }
    loss = {"s": {"key": "finetune.loss", "values": ["ce"]}}
    assert planned(finished, TABLE, more={"variants": loss}) == {}


def test_a_study_whose_only_value_is_the_tables_own_shows_its_runs(finished):
    target = "results/tiny/variants/labels.md"
    study = ("variants={labels: {key: finetune.images_per_class, values: [16]}}",)
    assert planned(finished, target, config=study) == {"variants": 1}
    snakemake(finished, target, config=study)
    text = (finished / target).read_text()
    top1 = pd.read_csv(finished / "results/tiny/results.csv").groupby("arm")["top1"].mean()
    assert f"{top1['mfm']:.2f}" in text
    for ending in ("csv", "svg", "png"):
        assert (finished / target).with_suffix(f".{ending}").is_file()


def test_further_evaluations_and_other_images_evaluate_alone_and_have_pages(finished):
    other, results = finished / "part", finished / "results/tiny"
    for name in ("discs", "rings"):
        shutil.copytree(finished / "data/tiny/val" / name, other / name)
    config = (f"evaluate={{bands: {{radii: [2, 40]}}, also: {{part: {other}}}}}",)
    assert planned(finished, config=config) == {
        "evaluate_config": 2,
        "evaluate_further": 6,
        "further": 1,
        "further_figure": 1,
        "other_images_config": 1,
        "link_other": 1,
        "evaluate_other": 6,
        "also": 1,
        "report_page": 1,
        "default": 1,
    }
    pages = [f"results/tiny/{name}.md" for name in ("bands", "also")]
    done = snakemake(finished, *pages, config=("seeds=[0]", *config), alone=True)
    assert "evaluate.also.part: 24 of the 24 images are also in val, byte for byte." in done.stderr
    clean = pd.read_csv(results / "results.csv").query("seed == 0")
    rows = pd.read_csv(results / "bands.csv")
    assert rows["low_40"].tolist() == pytest.approx(clean["top1"].tolist(), abs=1e-3)
    assert "| mfm (n = 1) |" in (results / "bands.md").read_text()
    rows = pd.read_csv(results / "also.csv")
    for arm, top1 in zip(rows["arm"], rows["top1_all"], strict=True):
        images = pd.read_parquet(results / f"evaluate/{arm}/seed0.parquet")
        mine = images["label"].isin(["discs", "rings"])
        assert top1 == pytest.approx(100 * images[mine]["correct"].mean())
    assert "24 images of 2 of the 4 classes" in (results / "also.md").read_text()
    # Another folder under that name, and one more: neither has to do with the table.
    more = {"also": {"part": str(finished / "data/tiny/val"), "whole": str(other)}}
    jobs = planned(finished, pages[1], config=("seeds=[0]",), more={"evaluate": more})
    assert jobs == {
        "evaluate_config": 1,
        "other_images_config": 2,
        "link_other": 2,
        "evaluate_other": 6,
        "also": 1,
    }


def test_an_arm_from_scratch_that_is_trained_longer_runs_alone(finished):
    arm = ("arms={scratch-long: {as_long_as: mfm, seeds: [1]}}",)
    jobs = planned(finished, TABLE, config=arm)
    assert jobs == {
        "finetune_config": 1,
        "finetune": 1,
        "evaluate": 1,
        "results": 1,
        "plan": 1,
        "table": 1,
    }
    run = "results/tiny/finetune/scratch-long/seed1"
    snakemake(finished, f"{run}/metrics.csv", config=arm)
    epochs = pd.read_csv(finished / run / "metrics.csv")["epoch"]
    assert epochs.max() == 2 + 2  # 128 images once, 64 an epoch


def test_the_plan_command_runs_nothing(finished, tmp_path, monkeypatch, capsys):
    def planned_in(folder: Path) -> str:
        monkeypatch.chdir(folder)
        plan.main(["--configfile", str(ROOT / "configs/tiny.yaml"), str(finished / "asked.yaml")])
        return capsys.readouterr().out

    said = planned_in(tmp_path)
    assert "## Before there are runs" in said
    assert "found with 2 pairs" in said
    assert not list(tmp_path.iterdir())
    assert planned_in(finished) == (finished / "results/tiny/plan.md").read_text()
    assert planned(finished) == {}


def test_an_evaluation_setting_reruns_evaluation_alone(finished):
    jobs = planned(finished, TABLE, config=("evaluate={resize: 36}",))
    assert jobs == {"evaluate_config": 1, "evaluate": 6, "results": 1, "plan": 1, "table": 1}


def test_stages_can_be_asked_for_and_forced_by_name(finished):
    for target in ("pretrainings", "finetunings", "evaluations"):
        assert planned(finished, target) == {}
    assert planned(finished, "evaluations", "--forcerun", "evaluate") == {
        "evaluate": 6,
        "evaluations": 1,
    }
    jobs = planned(finished, TABLE, "--forcerun", "pretrain")
    assert jobs["pretrain"] == 3
    assert jobs["finetune"] == 4, "the arm from scratch does not start from a pretraining"
    for rule in ("finetune", "evaluate"):
        assert planned(finished, TABLE, "--forcerun", rule)[rule] == 6


def test_a_deleted_evaluation_reruns_with_the_table_alone(finished):
    results = finished / "results/tiny"
    before = (results / "results.csv").read_text()
    (results / "evaluate/mfm/seed0.parquet").unlink()
    assert planned(finished, TABLE) == {"evaluate": 1, "results": 1, "plan": 1, "table": 1}
    (results / "evaluate/mfm/seed1.csv").unlink()
    assert planned(finished, TABLE) == {"evaluate": 2, "results": 1, "plan": 1, "table": 1}
    snakemake(finished, TABLE)
    assert (results / "results.csv").read_text() == before
    assert planned(finished, TABLE) == {}


def test_forced_pretraining_trains_again_to_the_same_bits(finished):
    run = finished / "results/tiny/pretrain/mfm/seed0"
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
        ("variants={loss: {key: finetune.los, values: [ce]}}", "did you mean 'loss'?"),
        ("finetune={epohcs: 3}", "unknown key 'finetune.epohcs' (did you mean 'epochs'?)"),
        ("arms={other: {weights: /nowhere/w.pth}}", "there is no file /nowhere/w.pth"),
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


def test_finished_runs_are_not_overwritten_by_another_dataset(finished):
    images = photographs(finished / "other")
    settings = (f"dataset={{name: other, source: {images}}}",)
    done = snakemake(finished, "--dry-run", config=settings, check=False)
    assert done.returncode != 0
    assert "set results to another folder" in done.stderr


def test_runs_of_an_earlier_version_are_not_overwritten(tmp_path):
    run = tmp_path / "results/tiny/finetune/mfm/seed0"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"init": "mfm", "stage": "finetune"}')
    done = snakemake(tmp_path, "--dry-run", check=False)
    assert done.returncode != 0
    assert "holds runs of an earlier version of this package" in done.stderr
    assert "Traceback" not in done.stderr
