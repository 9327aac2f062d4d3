"""Equal tuning: what is tried, on which images, and what is chosen."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import ROOT

from mfm.commands import export
from mfm.data.linking import link
from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.evaluation.results import read_results
from mfm.evaluation.run import run as evaluate
from mfm.experiment.layout import locate
from mfm.experiment.resolve import evaluate_job, finetune_job
from mfm.experiment.settings import Experiment
from mfm.experiment.tuning import Choice, choose
from mfm.experiment.variants import Runs
from mfm.models import weights
from mfm.models.backbones import create_backbone
from mfm.processes.ranks import Process
from mfm.reporting import tuning
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import load_json, parse

ALONE = Process(rank=0, world=1, device=torch.device("cpu"))
GRID = {"optimizer.lr": [0.01, 0.001], "epochs": [10, 30]}
TRIALS = [
    "epochs-10_optimizer.lr-0.01",
    "epochs-30_optimizer.lr-0.01",
    "epochs-10_optimizer.lr-0.001",
    "epochs-30_optimizer.lr-0.001",
]
VALUES = {
    "seeds": [0, 1, 2, 3],
    "dataset": {
        "name": "tiny",
        "source": "generated",
        "image_size": 32,
        "holdout_per_class": 4,
    },
    "model": {"backbone": "resnet10t"},
    "pretrain": {"p": {"task": "mfm", "seeds": [5, 6]}},
    "arms": {
        "scratch": "scratch",
        "mfm": {"pretrain": "p"},
        "few": {"pretrain": "p", "seeds": [1]},
        "given": {"weights": "x.pth"},
        "long": {"as_long_as": "mfm"},
    },
    "finetune": {"epochs": 10, "optimizer": {"lr": 0.001}},
}
ARMS = list(VALUES["arms"])


def values(**more):
    return VALUES | {"tuning": {"grid": GRID, "seeds": [100, 101]} | more.pop("tuning", {})} | more


def experiment(**more):
    return parse(Experiment, values(**more), where="test")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tuning": {"seeds": [100, 2]}}, "tuning.seeds: [2] are the table's; trials have seeds"),
        ({"dataset": {"name": "a"}}, "tuning chooses on the holdout"),
        ({"evaluate": {"split": "holdout"}}, "tuning chooses on the holdout"),
        ({"tuning": {"grid": {"optimizer.rl": [1, 2]}}}, "no key 'finetune.optimizer.rl'"),
        ({"tuning": {"grid": {"epochs": [1, 0]}}}, "tuning.grid: with finetune.epochs: 0"),
        ({"tuning": {"grid": {"epochs": [10]}}}, "at least two combinations to choose from"),
        ({"tuning": {"grid": {"epochs": []}}}, "'epochs' has no values"),
        ({"tuning": {"grid": {"smoothing": [0.1, 0.10000001]}}}, "give each value once"),
        ({"tuning": {"use": "best"}}, "tuning.use: should be 'shared' or 'own'"),
        (
            {"variants": {"tuning": {"key": "finetune.loss", "values": ["bce"]}}},
            "variants.tuning: this name is the tuning's; choose another",
        ),
    ],
)
def test_a_tuning_that_cannot_be_is_told_in_one_line(more, told):
    with pytest.raises(UserError) as caught:
        Runs(experiment(**more))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


# What is tried


def test_every_arm_has_the_same_trials_and_seeds():
    runs = Runs(experiment())
    assert list(runs.trials) == TRIALS, "the grid's order"
    tried = {
        name: [(model.arm, model.seed) for model in map(model_of, runs.rows(trial))]
        for name, trial in runs.trials.items()
    }
    assert list(tried.values()) == [list(itertools.product(ARMS, [100, 101]))] * 4
    rates = [(0.01, 10), (0.01, 30), (0.001, 10), (0.001, 30)]
    for trial, (lr, epochs) in zip(runs.trials.values(), rates, strict=True):
        for arm in ARMS:
            job = finetune_job(trial.experiment, arm, 100)
            assert (job.training.optimizer.lr, job.training.epochs) == (lr, epochs)
            # All else is the table's: the arm of equal cost is tried at its own length.
            own = finetune_job(runs.experiment, arm, 100)
            assert job == own.model_copy(update={"training": job.training})


def test_trials_share_the_pretrainings_and_train_nothing_of_the_table():
    alone = Runs(experiment().model_copy(update={"tuning": None}))
    runs = Runs(experiment())
    assert runs.pretrainings == alone.pretrainings
    assert [run for run in runs.finetunings if run[0] == ""] == alone.finetunings
    assert len(runs.finetunings) == len(alone.finetunings) + 4 * 2 * len(ARMS)
    folder = runs.trials[TRIALS[0]].folder
    start = runs.initial_weights("mfm", 101, folder=folder)
    assert start == runs.initial_weights("mfm", 1) == alone.initial_weights("mfm", 3)


def model_of(row):
    """Whose row a path is."""
    found = locate(row.replace("/evaluate/", "/finetune/").replace(".csv", "/model.safetensors"))
    assert found is not None
    assert found.evaluation.row == row
    return found


@pytest.mark.parametrize("use", ["shared", "own"])
def test_all_that_a_choice_depends_on_was_evaluated_on_images_set_aside(use):
    """What the rule `choice` reads are these rows alone."""
    studies = {
        "loss": {"key": "finetune.loss", "values": ["bce"]},
        "lr": {"key": "finetune.optimizer.lr", "values": [0.01]},
        "more": {"key": "seeds", "values": [[0, 1, 100]]},
    }
    runs = Runs(experiment(tuning={"use": use}, variants=studies))
    read = [row for trial in runs.trials.values() for row in runs.rows(trial)]
    assert len(set(read)) == 4 * 2 * len(ARMS)
    for row in read:
        job = evaluate_job(runs.at(model_of(row).folder))
        assert job.evaluation.split == "holdout"
    table = [runs.layout.evaluation(arm, seed).row for arm, seed in [("mfm", 0), ("scratch", 3)]]
    table += [each.evaluation.row for each in runs.tuned_models(dict.fromkeys(ARMS, TRIALS[0]))]
    for row in table:
        job = evaluate_job(runs.at(model_of(row).folder))
        assert job.evaluation.split == "val"
        assert row not in read


def test_labels_of_val_change_no_row_of_a_trial(tmp_path):
    ours = experiment(tuning={"grid": {"epochs": [10, 30]}})
    link.link(Dataset(**VALUES["dataset"]), tmp_path)
    manifest = tmp_path / "manifest.parquet"
    table = pq.read_table(manifest)
    labels = table["label"].to_numpy().copy()
    val = np.asarray(table["split"].to_pylist()) == "val"
    labels[val] = np.roll(labels[val], 12)  # 12 a class: every label is another one
    place = table.schema.get_field_index("label")
    field = table.schema.field(place)
    permuted = tmp_path / "permuted.parquet"
    pq.write_table(table.set_column(place, field, pa.array(labels, field.type)), permuted)
    torch.manual_seed(0)
    model = tmp_path / "model.safetensors"
    (tmp_path / "metrics.csv").write_text("epoch,images_per_second,seconds\n1,100.0,2.5\n")
    said = {"arm": "a", "seed": "1", "train_images": "8", "code_version": "v", "config_hash": "c"}
    weights.save_weights(create_backbone(ours.model, classes=4), model, said)
    runs = Runs(ours)

    def row(experiment, images):
        out = tmp_path / "row.csv"
        job = evaluate_job(experiment)
        files = {"manifest_path": images, "weights": model, "row": out, "predictions": None}
        evaluate(job, **files, pretraining="-", process=ALONE, workers=0)
        return read_results(out)

    for trial in runs.trials.values():
        pd.testing.assert_frame_equal(*(row(trial.experiment, m) for m in (manifest, permuted)))
    assert row(ours, manifest)["loss"].item() != row(ours, permuted)["loss"].item()


# What is chosen


def rows_of(runs, top1, *, seeds=(100, 101)):
    """Rows of the trials, in the grid's order, with a made-up accuracy."""
    return pd.DataFrame(
        [
            {"arm": arm, "trial": trial, "seed": seed, "top1": top1(arm, trial, seed)}
            for trial in runs.trials
            for arm in runs.experiment.arms
            for seed in seeds
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_planted_optima_are_found(seed):
    draws = np.random.default_rng(seed)
    runs = Runs(experiment())
    best = {arm: str(draws.choice(TRIALS)) for arm in ARMS}
    noise = dict(
        zip(itertools.product(ARMS, TRIALS, [100, 101]), draws.normal(size=40), strict=True)
    )

    # One seed alone would mislead: the best trial is the best on average.
    def top1(arm, trial, seed):
        planted = 3.0 * (trial == best[arm]) + 2.0 * (seed == 100) * (trial == TRIALS[-1])
        return 70 + planted + 0.2 * noise[arm, trial, seed]

    found = choose(rows_of(runs, top1))
    assert found.best == best
    means = {t: np.mean([top1(a, t, s) for a in ARMS for s in (100, 101)]) for t in TRIALS}
    assert found.shared == max(means, key=means.get)


def test_of_equal_trials_the_first_in_the_grid_is_chosen():
    runs = Runs(experiment())
    tied = {"scratch": TRIALS[1:3], "mfm": TRIALS[2:], "few": TRIALS, "given": [], "long": TRIALS}
    found = choose(rows_of(runs, lambda arm, trial, _: 70.0 + (trial in tied[arm])))
    firsts = [TRIALS[1], TRIALS[2], TRIALS[0], TRIALS[0], TRIALS[0]]
    assert found.best == dict(zip(ARMS, firsts, strict=True))
    assert found.shared == TRIALS[2]


def test_the_tables_models_have_their_arms_best_trial():
    runs = Runs(experiment())
    own = "epochs-10_optimizer.lr-0.001"  # the experiment's recipe
    best = dict.fromkeys(ARMS, TRIALS[1]) | {"mfm": own}
    found = {(each.arm, each.seed): each for each in runs.tuned_models(best)}
    assert list(found) == [
        (arm, seed) for arm in ARMS for seed in ([1] if arm == "few" else [0, 1, 2, 3])
    ]
    assert found["mfm", 2].folder == "", "nothing that the table has is trained again"
    for (arm, seed), model in found.items():
        job = finetune_job(runs.at(model.folder), arm, seed)
        assert (job.training.epochs, job.training.optimizer.lr) == (
            (10, 0.001) if arm == "mfm" else (30, 0.01)
        )
        start = runs.initial_weights(arm, seed, folder=model.folder)
        assert start == runs.initial_weights(arm, seed)


# What the page says


def test_the_page_has_both_answers_each_arms_best_and_the_cost():
    arms = {"scratch": "scratch", "mfm": {"pretrain": "p"}}
    grid = {"optimizer.lr": [0.001, 0.01, 0.1]}
    ours = experiment(arms=arms, tuning={"grid": grid, "use": "own"})
    runs = Runs(ours)
    best = {"scratch": "optimizer.lr-0.1", "mfm": "optimizer.lr-0.01"}
    trials = rows_of(runs, lambda arm, trial, _: 60.0 + 10 * (trial == best[arm]))
    trials = trials.assign(seconds=30.0, images=16)

    def table(gain):
        rows = [
            {"arm": arm, "seed": seed, "top1": 70 + seed + gain * (arm == "mfm")}
            | {"pretraining_seed": "-" if arm == "scratch" else str(5 + seed % 2)}
            for arm in arms
            for seed in range(4)
        ]
        return pd.DataFrame(rows)

    found = tuning.Tuned(
        runs=runs,
        choice=Choice(best=best, shared="optimizer.lr-0.001"),
        trials=trials,
        shared=table(3.0),
        tuned=table(-1.0),
    )
    text = " ".join(to_markdown(tuning.document(found)).split())
    assert "| optimizer.lr 0.1 | **70.00** | 60.00 | 65.00 |" in text
    assert "At an edge of the grid: scratch, optimizer.lr 0.1" in text
    assert "mfm, optimizer.lr" not in text
    assert "The experiment's own recipe: optimizer.lr 0.001." in text
    (row,) = (line for line in to_markdown(tuning.document(found)).splitlines() if "+3.00" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["mfm", "optimizer.lr 0.01", "74.50", "70.50"]
    assert cells[4].startswith("+3.00")
    assert cells[6].startswith("-1.00")
    assert "| scratch | 6 | 3.0 min |" in text
    assert "table.md has **each arm's own best**" in text


# All of it


@pytest.mark.processes
def test_the_smallest_tuning_leaves_its_page_and_a_table_of_each_arms_own_best(
    tmp_path, monkeypatch
):
    values = yaml.safe_load((ROOT / "configs/tiny.yaml").read_text())
    del values["pretrain"]["supervised"], values["arms"]["supervised"]
    values["pretrain"]["mfm"]["ranks"] = 1
    values["dataset"]["holdout_per_class"] = 8
    values["finetune"] |= {"epochs": 1, "images_per_class": 8, "curve_images": 0}
    values["finetune"]["optimizer"] = {"lr": 0.01}  # not the best, here
    values |= {"seeds": [0], "question": {"arm": "mfm", "baseline": "scratch"}}
    values["tuning"] = {"grid": {"optimizer.lr": [0.001, 0.01]}, "seeds": [9], "use": "own"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "all"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "mine.yaml", "--"]
    command += ["results/tiny/tuning.md", "results/tiny/report.html"]

    def snakemake():
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr

    snakemake()
    results = tmp_path / "results/tiny"
    chosen = load_json(Choice, results / "tuning.json")
    trials = read_results(results / "variants/tuning.csv")
    assert (trials["images"] == 4 * 8).all(), "set aside"
    assert chosen == choose(trials)
    assert trials[["trial", "arm", "seed"]].to_numpy().tolist() == [
        [trial, arm, 9]
        for trial in ("optimizer.lr-0.001", "optimizer.lr-0.01")
        for arm in ("scratch", "mfm")
    ]
    table = read_results(results / "results.csv")
    assert (table["images"] == 4 * 12).all(), "val"
    for row in table.itertuples():
        best = chosen.best[row.arm]
        folder = "" if best == "optimizer.lr-0.01" else f"variants/tuned/{best}/"
        assert row.checkpoint == f"results/tiny/{folder}finetune/{row.arm}/seed0/model.safetensors"
    trial = next(results.glob("variants/tuning/*/finetune/mfm/seed9/model.safetensors"))
    cards = {row.checkpoint: f"this file {row.top1:.2f} %", str(trial): "not known here"}
    monkeypatch.chdir(tmp_path)
    for number, (model, said) in enumerate(cards.items()):
        export.main([model, f"card{number}"])
        assert said in Path(f"card{number}/README.md").read_text()
    page = (results / "tuning.md").read_text()
    assert "table.md has **each arm's own best**" in page
    assert "tuning.md" in (results / "table.md").read_text()
    assert "<h3>Which finetuning for which arm?</h3>" in (results / "report.html").read_text()
    looks = pd.read_csv(tmp_path / "data/tiny/looks.csv")["split"].tolist()
    others = set(chosen.best.values()) - {"optimizer.lr-0.01"}
    assert (looks.count("holdout"), looks.count("val")) == (2, 1 + len(others))
    assert "Nothing to be done" in snakemake()
