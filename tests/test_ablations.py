import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mfm.errors import UserError
from mfm.experiment import ablations, resolve
from mfm.experiment.settings import Experiment
from mfm.objectives.supervised.settings import Finetuning
from mfm.reporting import ablations as report
from mfm.settings.section import differing_keys, parse

VALUES = {
    "results": "out/",
    "seeds": [0, 1, 2],
    "dataset": {"name": "own", "source": "generated"},
    "pretrain": {"p": {"task": "mfm", "seed": 5, "crop": {"area": [0.2, 0.9]}}},
    "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}},
    "finetune": {"loss": "ce"},
    "evaluate": {"resize": 34, "crop": 32},
    "ablations": {
        "val_resize": [36, 32],
        "loss": ["bce"],
        "crop_area": [0.67, 0.1],
        "pretrain_seeds": [6],
    },
}


def experiment(**changes):
    return parse(Experiment, VALUES | changes, where="test")


def test_values_have_the_experiments_own_among_them():
    found = {name: ablations.values(experiment(), name) for name in ablations.KEYS}
    assert found == {
        "val_resize": [32, 34, 36],
        "loss": ["ce", "bce"],
        "crop": [0.1, 0.2, 0.67],
        "variance": [5, 6],
    }
    assert ablations.asked(experiment(ablations={"loss": ["bce"]})) == ["loss"]
    assert ablations.asked(experiment(ablations={})) == []


def test_variants_differ_in_one_thing_from_the_arm():
    ours = experiment()
    found = ablations.with_variants(ours)
    added = {name: found.pretrain[name] for name in found.pretrain if name != "p"}
    assert list(added) == ["p.area-0.1", "p.area-0.67", "p.seed-6"]
    base = ours.pretrain["p"]
    keys = {
        name: differing_keys(base.model_dump(mode="json"), variant.model_dump(mode="json"))
        for name, variant in added.items()
    }
    assert keys == {
        "p.area-0.1": ["crop.area"],
        "p.area-0.67": ["crop.area"],
        "p.seed-6": ["seed"],
    }
    assert added["p.area-0.1"].crop.area == (0.1, 0.9)
    assert added["p.seed-6"].seed == 6
    assert found.arms["mfm.seed-6"].pretrain == "p.seed-6"
    assert found.arms["mfm"] == ours.arms["mfm"]
    assert ablations.with_variants(experiment(ablations={})) == experiment(ablations={})


def test_runs_are_shared_with_the_table():
    ours = experiment()
    table = {f"out/evaluate/{init}/seed{seed}.csv" for init, seed in resolve.finetunings(ours)}
    for name in ablations.KEYS:
        rows = ablations.rows(ours, name)
        own = ablations.name_of(ablations.own_value(ours, name))
        assert set(rows[own]) <= table, name
        others = {row for value, part in rows.items() if value != own for row in part}
        baseline = {row for row in others if "/scratch/" in row}
        assert not (others - baseline) & table
    assert ablations.rows(ours, "loss")["bce"][0] == (
        "out/ablation_loss/bce/evaluate/scratch/seed0.csv"
    )
    crop = ablations.rows(ours, "crop")["0.1"]
    assert crop == [
        f"out/evaluate/{init}/seed{n}.csv" for init in ("scratch", "mfm.area-0.1") for n in range(3)
    ]
    assert len(ablations.rows(ours, "variance")["6"]) == 3


def test_the_jobs_own_configurations():
    ours = experiment()
    folder = ablations.folder(ours, "loss", "bce")
    run = resolve.resolve(ours, "finetune", init="mfm", seed="1", labels=folder)
    own = resolve.resolve(ours, "finetune", init="mfm", seed="1", labels="")
    assert differing_keys(run.model_dump(), own.model_dump()) == ["training.loss"]
    sizes = [
        resolve.resolve(ours, "evaluate", **wildcards).evaluation.resize
        for wildcards in ({}, {"resize": "36"})
    ]
    assert sizes == [34, 36]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ablations": {"val_resize": [31]}}, r"val_resize: \[31\] are below evaluate.crop"),
        ({"ablations": {"loss": ["ce", "ce"]}}, "give each value once"),
        ({"ablations": {"crop_area": [0.95]}}, "above the crop's largest area"),
        ({"ablations": {"crop_area": [0.1], "arm": "scratch"}}, "'scratch' is no arm with"),
        ({"ablations": {"pretrain_seeds": [5]}}, "needs two pretrainings"),
        ({"seeds": [1]}, "and two seeds of finetuning"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, expected):
    with pytest.raises(UserError, match=expected):
        experiment(**changes)


def test_a_variants_name_that_is_taken_is_refused():
    arms = VALUES["arms"] | {"mfm.seed-6": "scratch"}
    with pytest.raises(UserError, match=r"mfm\.seed-6"):
        ablations.with_variants(experiment(arms=arms))


def results(name, ours, tmp_path, monkeypatch):
    """Rows as evaluations leave them, with made-up accuracies; the frame that the report reads."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    for part in ablations.rows(ours, name).values():
        for path in part:
            init, seed = re.search(r"([^/]+)/seed(\d)\.csv", path).groups()
            row = {"init": init, "seed": int(seed), "top1": round(80 + generator.normal(), 2)}
            row |= {"code_version": "1", "config_hash": "0"}
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            if not (tmp_path / path).exists():
                pd.DataFrame([row]).to_csv(tmp_path / path, index=False)
    return report.collect(ours, name)


def cells(text, *first):
    """The rows of a table that begin with these cells."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [row for row in rows if tuple(row[: len(first)]) == first]


def top1(rows, value, init):
    return rows[(rows["value"] == value) & (rows["init"] == init)].set_index("seed")["top1"]


@pytest.mark.parametrize(("name", "value"), [("loss", "bce"), ("crop", "0.1")])
def test_each_value_is_compared_with_the_own_one_and_with_the_baseline(
    name, value, tmp_path, monkeypatch
):
    ours = experiment()
    rows = results(name, ours, tmp_path, monkeypatch)
    text = report.render(ours, name, rows)
    (row,) = cells(text, value, "mfm")
    own = ablations.name_of(ablations.own_value(ours, name))
    own_scratch = top1(rows, own, "scratch") if name == "crop" else top1(rows, value, "scratch")
    values = top1(rows, value, "mfm")
    assert row[2] == f"{values.mean():.2f}"
    for theirs, column in ((top1(rows, own, "mfm"), 5), (own_scratch, 8)):
        gaps = values - theirs
        low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
        assert row[column : column + 2] == [f"{gaps.mean():+.2f}", f"{low:+.2f} to {high:+.2f}"]
    assert cells(text, f"**{own}**", "mfm")[0][5:8] == ["-", "-", "-"]
    assert len(cells(text, value)) == (2 if name == "loss" else 1)
    assert "Warning" not in text


def test_the_strip_has_every_size_and_chooses_none(tmp_path, monkeypatch):
    ours = experiment()
    rows = results("val_resize", ours, tmp_path, monkeypatch)
    text = report.render(ours, "val_resize", rows)
    assert cells(text, "initialisation")[0][1:] == ["32", "**34**", "36", "spread"]
    means = [top1(rows, size, "mfm").mean() for size in ("32", "34", "36")]
    (strip, *differences) = cells(text, "mfm")
    spread = max(means) - min(means)
    assert strip[1:] == [*(f"{mean:.2f}" for mean in means), f"{spread:.2f}"]
    assert [row[1] for row in differences] == ["32", "**34**", "36"]
    gap = (top1(rows, "36", "mfm") - top1(rows, "36", "scratch")).mean()
    assert differences[2][2] == f"{gap:+.2f}"


def test_a_verdict_among_several_is_corrected_for_their_number(tmp_path, monkeypatch):
    ours = experiment()
    rows = results("val_resize", ours, tmp_path, monkeypatch).reset_index(drop=True)
    gaps = {"32": (1.0, 1.5, 2.0), "34": (0.9, 1.0, 1.1), "36": (0.5, -1.0, 0.4)}
    rows["top1"] = 80.0
    for (value, init), part in rows.groupby(["value", "init"]):
        if init == "mfm":
            rows.loc[part.sort_values("seed").index, "top1"] += list(gaps[value])
    assert stats.ttest_1samp(gaps["32"], 0).pvalue == pytest.approx(0.035, abs=0.001)
    text = report.render(ours, "val_resize", rows)
    (found,) = cells(text, "mfm", "32")
    assert found[2:] == ["+1.50", "+0.26 to +2.74", "not distinguishable with 3 seeds"]
    assert cells(text, "mfm", "**34**")[0][4] == "see table.md"


def test_variance_is_split(tmp_path, monkeypatch):
    ours = experiment(ablations={"pretrain_seeds": [6, 7, 11]})
    rows = results("variance", ours, tmp_path, monkeypatch)
    text = report.render(ours, "variance", rows)
    table = np.array([top1(rows, str(seed), "mfm") for seed in (5, 6, 7, 11)])
    assert cells(text, "**5**")[0][1:4] == [f"{value:.2f}" for value in table[0]]
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    square = (rest**2).sum() / 6
    between = table.mean(1).var(ddof=1) - square / 3
    (row,) = cells(text, "between pretrainings")
    assert row[3] == f"{max(0, between):.3f}"
    p = stats.f.sf(3 * table.mean(1).var(ddof=1) / square, 3, 6)
    assert f"p = {p:.2g}" in text
    assert "not distinguishable from zero with 4 pretrainings" in text


def test_the_loss_ablation_leaves_bces_threshold_out():
    ours = experiment(finetune={"loss": "bce", "bce_threshold": 0.2}, ablations={"loss": ["ce"]})
    recipes = resolve.amounts(ours)
    assert recipes[""].bce_threshold == 0.2
    other = recipes["ablation_loss/ce/"]
    assert (other.loss, other.bce_threshold) == ("ce", None)
    parse(Finetuning, other.model_dump(), where="test")
