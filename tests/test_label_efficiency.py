import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mfm.data.selection import labelled_positions
from mfm.errors import UserError
from mfm.experiment import resolve
from mfm.experiment.demands import check_counts
from mfm.experiment.settings import Experiment
from mfm.reporting import label_efficiency
from mfm.settings.section import config_hash, parse

VALUES = {
    "seeds": [0, 1, 2],
    "dataset": {"name": "own", "source": "generated"},
    "pretrain": {"p": {"task": "mfm"}},
    "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}, "few": {"pretrain": "p"}},
    "finetune": {"images_per_class": 10, "batch": 8, "epochs": 4},
    "label_efficiency": [
        {"fraction": 0.5},
        {"images_per_class": 10},
        {"images_per_class": 2, "batch": 4, "epochs": 9},
    ],
}


def experiment(**changes):
    return parse(Experiment, VALUES | changes, where="test")


@st.composite
def label_arrays(draw):
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[draw(st.permutations(range(len(labels))))], tuple("abcde"[: len(counts)])


@given(arrays=label_arrays(), fraction=st.floats(0.001, 1), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_a_fraction_is_that_of_each_class(arrays, fraction, seed):
    labels, classes = arrays
    positions = labelled_positions(labels, classes, None, fraction=fraction, seed=seed)
    counts = np.bincount(labels).tolist()
    expected = [max(1, math.floor(fraction * count + 0.5)) for count in counts]
    assert np.bincount(labels[positions]).tolist() == expected
    assert (np.diff(positions) > 0).all()


@given(arrays=label_arrays(), seed=st.integers(0, 2**32), data=st.data())
@settings(deadline=None)
def test_more_labels_include_the_fewer(arrays, seed, data):
    labels, classes = arrays
    fractions = sorted(data.draw(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1))))
    few, many = (
        set(labelled_positions(labels, classes, None, fraction=f, seed=seed)) for f in fractions
    )
    assert few <= many
    smallest = int(np.bincount(labels).min())
    ladder = [set(labelled_positions(labels, classes, n + 1, seed=seed)) for n in range(smallest)]
    assert all(fewer < more for fewer, more in itertools.pairwise(ladder))


def test_runs_with_the_tables_recipe_are_the_tables_runs():
    ours = experiment()
    found = resolve.amounts(ours)
    half, two = "label_efficiency/50-percent/", "label_efficiency/2-per-class/"
    assert list(found) == ["", half, two]
    assert found[""] == ours.finetune
    assert (found[half].fraction, found[half].images_per_class) == (0.5, None)
    assert (found[two].images_per_class, found[two].batch, found[two].epochs) == (2, 4, 9)
    assert found[two].optimizer == ours.finetune.optimizer
    rows = [resolve.evaluations(ours, amount) for amount in ours.label_efficiency]
    assert rows[1][:2] == [
        "results/evaluate/scratch/seed0.csv",
        "results/evaluate/scratch/seed1.csv",
    ]
    assert rows[2][-1] == f"results/{two}evaluate/few/seed2.csv"
    assert all(len(row) == 9 for row in rows)


def test_all_labels_are_one_recipe_however_they_are_said():
    ours = experiment(finetune={"batch": 8}, label_efficiency=[{"fraction": 1.0}])
    assert list(resolve.amounts(ours)) == [""]


def test_each_amount_has_its_own_job():
    ours = experiment()
    runs = [
        resolve.resolve(ours, "finetune", init="mfm", seed="1", labels=labels)
        for labels in resolve.amounts(ours)
    ]
    assert [run.training.images_per_class for run in runs] == [10, None, 2]
    assert len({config_hash(run) for run in runs}) == 3
    assert runs[0] == resolve.resolve(ours, "finetune", init="mfm", seed="1")


@pytest.mark.parametrize(
    ("amounts", "told"),
    [
        ([{"epochs": 3}], "exactly one of images_per_class and fraction"),
        ([{"fraction": 0.1, "images_per_class": 3}], "exactly one of"),
        ([{"fraction": 1.5}], "label_efficiency.0.fraction"),
        ([{"fraction": 0.1}, {"fraction": 0.10}], "each amount of labelled images once"),
        ([{"fraction": 0.1, "bach": 3}], "did you mean 'batch'"),
    ],
)
def test_wrong_amounts_are_told(amounts, told):
    with pytest.raises(UserError, match=re.escape(told)):
        experiment(label_efficiency=amounts)


def test_an_amount_that_the_recipe_does_not_allow_is_told():
    finetune = VALUES["finetune"] | {"mixup": 0.1}
    with pytest.raises(UserError, match=r"label_efficiency\.0 with the rest of finetune: mixup"):
        experiment(finetune=finetune, label_efficiency=[{"fraction": 0.1, "batch": 3}])
    with pytest.raises(UserError, match="not both"):
        experiment(finetune={"images_per_class": 1, "fraction": 0.1})


SUMMARY = {"splits": {"train": {"images": 30, "per_class": {"ape": 16, "bee": 14}}}}


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ({"images_per_class": 15}, "label_efficiency.0.images_per_class is 15, but class bee"),
        (
            {"images_per_class": 3},
            "finetune.batch is 8, but there are only 6 training images in label_efficiency.0; set "
            "label_efficiency.0.batch",
        ),
        ({"fraction": 0.1}, "only 3 training images in label_efficiency.0"),
        ({"fraction": 0.1, "batch": 4}, "label_efficiency.0.batch is 4, but there are only 3"),
    ],
)
def test_too_few_images_for_an_amount_are_told(amount, told):
    ours = experiment(label_efficiency=[amount], pretrain={"p": {"task": "mfm", "batch": 30}})
    with pytest.raises(UserError, match=re.escape(told)):
        check_counts(resolve.demands(ours), SUMMARY)


TOP1 = {  # of seeds 0, 1, 2
    "50-percent": {"scratch": [70, 72, 71], "mfm": [75, 76.5, 76], "few": [70, 71.5, 72]},
    "10-per-class": {"scratch": [50, 55, 52], "mfm": [58, 64, 60.5], "few": [52, 51, 53]},
    "2-per-class": {"scratch": [20, 30, 25], "mfm": [21, 28, 27], "few": [19, 28, 22]},
}
IMAGES = {"50-percent": 200, "10-per-class": 100, "2-per-class": 20}


def results():
    return pd.DataFrame(
        [
            {
                "labels": labels,
                "init": init,
                "seed": seed,
                "top1": float(top1),
                "images": 1000,
                "train_images": IMAGES[labels],
                "code_version": "1+a",
            }
            for labels, arms in TOP1.items()
            for init, values in arms.items()
            for seed, top1 in enumerate(values)
        ]
    )


def cells(text, *start):
    """The cells of the rows whose first ones are given."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [row for row in rows if row[: len(start)] == list(start)]


def t_interval(values):
    """Of three values, by hand: t(0.975, 2) = 4.30265."""
    values = np.array(values, float)
    half = 4.302652729911275 * values.std(ddof=1) / math.sqrt(3)
    return values.mean() - half, values.mean() + half


def test_the_comparison_orders_amounts_and_computes_as_the_table():
    text = label_efficiency.render(experiment(), results())
    order = [row[0] for row in cells(text) if row[0] in IMAGES and len(row) == 9]
    assert order == ["2-per-class"] * 3 + ["10-per-class"] * 3 + ["50-percent"] * 3
    (row,) = cells(text, "10-per-class", "100", "mfm")
    assert row[3] == "**60.83**"
    low, high = t_interval(TOP1["10-per-class"]["mfm"])
    assert row[5] == f"{low:.2f} to {high:.2f}"
    low, high = t_interval([8, 9, 8.5])
    assert row[6:] == ["+8.50", f"{low:+.2f} to {high:+.2f}", "better"]
    (row,) = cells(text, "2-per-class", "20", "mfm")
    assert row[-1] == "not distinguishable with 3 seeds"
    (row,) = cells(text, "50-percent", "200", "scratch")
    assert row[-3:] == ["-", "-", "baseline"]


def test_mfm_is_compared_with_every_other_arm():
    text = label_efficiency.render(experiment(), results())
    part = text.split("## mfm against the other arms")[1].split("##")[0]
    assert [row[1] for row in cells(part, "10-per-class")] == ["scratch", "few"]
    (row,) = cells(part, "50-percent", "few")
    low, high = t_interval([5, 5, 4])
    assert row[2:] == ["+4.67", f"{low:+.2f} to {high:+.2f}", "better"]
    assert "## few against the other arms" in text
    assert "## scratch against" not in text


def test_other_lengths_and_other_versions_are_told():
    text = label_efficiency.render(experiment(), results())
    assert "2-per-class: 9 epochs of batch 4" in text
    assert "Otherwise 4 epochs of batch 8" in text
    assert "Warning" not in text
    mixed = results()
    mixed.loc[0, "code_version"] = "1+b"
    assert "different versions of the code" in label_efficiency.render(experiment(), mixed)


def test_one_seed_gives_a_table_and_a_curve_without_intervals(tmp_path):
    one = results()[results()["seed"] == 0].reset_index(drop=True)
    text = label_efficiency.render(experiment(), one)
    assert cells(text, "50-percent", "200", "mfm")[0][-1] == "no interval: needs at least 2 seeds"
    label_efficiency.draw(experiment(), one, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as figure:
        assert min(figure.size) > 400


def test_rows_are_collected_with_their_amounts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = experiment()
    for amount in ours.label_efficiency:
        for number, path in enumerate(resolve.evaluations(ours, amount)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            row = {"init": "x", "seed": number, "top1": 1.0, "config_hash": "00"}
            pd.DataFrame([row]).to_csv(tmp_path / path, index=False)
    found = label_efficiency.collect(ours)
    assert found["labels"].value_counts().to_dict() == dict.fromkeys(IMAGES, 9)
