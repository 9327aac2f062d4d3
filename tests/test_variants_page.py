"""Pages and figures of studies, from made-up rows of their evaluations."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mfm.experiment.resolve import pretraining_seed
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.files import style
from mfm.reporting import variants
from mfm.reporting.figures.variants import draw_study
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import parse
from mfm.statistics.over_seeds import holm

VALUES = {
    "seeds": [0, 1, 2],
    "dataset": {"name": "own", "source": "generated"},
    "pretrain": {
        "p": {"task": "mfm", "seeds": [5], "crop": {"area": [0.2, 0.9]}},
        "s": {"task": "supervised"},
    },
    "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}, "few": {"pretrain": "s"}},
    "finetune": {"loss": "ce", "images_per_class": 10, "batch": 8, "epochs": 4},
    "evaluate": {"resize": 34, "crop": 32},
}
STUDIES = {
    "size": {"key": "evaluate.resize", "values": [36, 32]},
    "loss": {"key": "finetune.loss", "values": ["bce"]},
    "crop": {"key": "pretrain.p.crop.area", "values": [[0.67, 0.9], [0.1, 0.9]]},
    "seeds": {"key": "pretrain.p.seeds", "values": [[6], [7], [11]]},
    "labels": {
        "key": "finetune",
        "values": [
            {"images_per_class": None, "fraction": 0.5},
            {"images_per_class": 10},
            {"images_per_class": 2, "batch": 4, "epochs": 9},
        ],
    },
}
LABELS = {"fraction-0.5": 200, "images_per_class-10": 100}
LABELS["batch-4_epochs-9_images_per_class-2"] = 20


def runs(folder="out", **changes):
    values = VALUES | {"results": str(folder), "variants": STUDIES} | changes
    return Runs(parse(Experiment, values, where="test"))


def compared(study, folder, *, top1=None, images=None, **changes):
    """A study with made-up rows, written and collected. `top1` gives {value: {arm: its seeds'}}."""
    ours = runs(folder, **changes)
    draws = np.random.default_rng(1)
    for variant in ours.studies[study]:
        for path in ours.rows(variant):
            if Path(path).exists():
                continue
            arm, seed = re.search(r"([^/]+)/seed(\d)\.csv", path).groups()
            value = round(80 + draws.normal(), 2)
            if top1 is not None:
                value = float(top1[variant.name][arm][int(seed)])
            row = {"arm": arm, "seed": int(seed), "top1": value, "images": 1000}
            row["train_images"] = (images or {}).get(variant.name, 100)
            start = pretraining_seed(variant.experiment, arm, int(seed))
            row["pretraining_seed"] = "-" if start is None else str(start)
            row |= {"code_version": "1+a", "config_hash": "00", "checkpoint": path}
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame([row]).to_csv(path, index=False)
    return variants.Compared(runs=ours, study=study, rows=variants.collect(ours, study))


def cells(found, *first):
    """The rows of the page's tables that begin with these cells."""
    rows = [re.split(r" \| ", line[2:-2]) for line in page(found).splitlines() if line[:1] == "|"]
    return [row for row in rows if tuple(row[: len(first)]) == first]


def page(found):
    return to_markdown(variants.document(found))


def of(found, value, arm):
    rows = found.rows
    return rows[(rows["value"] == value) & (rows["arm"] == arm)].set_index("seed")["top1"]


def difference(ours, theirs):
    """The cell of a paired difference."""
    gaps = ours - theirs
    low, high = stats.t.interval(0.95, len(gaps) - 1, gaps.mean(), stats.sem(gaps))
    return f"{gaps.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def top1(values):
    """The cell of a mean."""
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"**{values.mean():.2f}** ({max(low, 0):.2f} to {min(high, 100):.2f})"


def test_rows_are_collected_with_their_values(tmp_path):
    found = compared("size", tmp_path).rows
    assert found["value"].value_counts().to_dict() == {"34": 9, "36": 9, "32": 9}
    assert set(found[found["own"]]["value"]) == {"34"}
    # The rows are what the workflow writes and the report page reads.
    found.to_csv(tmp_path / "rows.csv", index=False)
    again = variants.read_rows(tmp_path / "rows.csv")
    assert again.to_dict("records") == found.to_dict("records")


@pytest.mark.parametrize(
    ("study", "own", "value", "arms"),
    [
        ("loss", "ce", "bce", ["scratch", "mfm", "few"]),
        ("crop", "0.2-0.9", "0.1-0.9", ["mfm"]),
        ("size", "34", "32", ["scratch", "mfm", "few"]),
    ],
)
def test_each_value_is_compared_with_the_own_one_and_with_the_baseline(
    study, own, value, arms, tmp_path
):
    found = compared(study, tmp_path)
    assert [row[1] for row in cells(found, value) if len(row) == 8] == arms
    row = cells(found, value, "mfm")[0]
    ours = of(found, value, "mfm")
    assert row[2:5] == [top1(ours), "3 from 1", difference(ours, of(found, own, "mfm"))]
    assert row[6] == difference(ours, of(found, value, "scratch"))
    own_row = cells(found, f"**{own}**", "mfm")[0]
    assert own_row[4:6] == ["-", "-"]
    assert own_row[7] == "see table.md"
    if "scratch" in arms:
        assert cells(found, value, "scratch")[0][3] == "3"
        assert cells(found, value, "scratch")[0][6:] == ["-", "baseline"]
    else:
        assert "makes no difference to scratch, few: their runs are shared" in page(found)
    assert "given this one pretraining" in page(found)
    assert "Warning" not in page(found)


def test_every_size_is_shown_and_none_is_chosen(tmp_path):
    found = compared("size", tmp_path)
    assert "it was fixed in advance, and none is chosen here" in page(found)
    assert cells(found, "arm")[0] == ["arm", "32", "34", "36", "spread"]
    means = [of(found, size, "mfm").mean() for size in ("32", "34", "36")]
    [strip] = [row for row in cells(found, "mfm") if len(row) == 5]
    spread = max(means) - min(means)
    assert strip[1:] == [*(f"{mean:.2f}" for mean in means), f"{spread:.2f}"]


def test_all_verdicts_of_a_page_share_one_correction(tmp_path):
    ours, draws = runs(tmp_path, seeds=list(range(8))), np.random.default_rng(0)
    gaps = {(value, arm): draws.normal(1, 0.6, 8) for value in ("32", "34", "36") for arm in "sm"}
    top1 = {
        value: {"scratch": 80 + gaps[value, "s"], "mfm": 80 + gaps[value, "m"], "few": [80] * 8}
        for value in ("32", "34", "36")
    }
    found = compared("size", tmp_path, top1=top1, seeds=ours.experiment.seeds)
    tested = {key: each for key, each in found.differences.items() if key[0][0] != "34"}
    p = {key: each.p for key, each in tested.items() if each.p is not None}
    # Of each arm from itself, and of both others from the baseline; 'few' doesn't change.
    assert len(tested) == 2 * 3 + 2 * 2
    assert [tested[key].adjusted for key in p] == pytest.approx(holm(list(p.values())))
    assert {each.comparisons for key, each in tested.items() if key in p} == {len(p)}
    own = {each.comparisons for key, each in found.differences.items() if key[0][0] == "34"}
    assert own == {1}
    assert cells(found, "**34**", "mfm")[0][7] == "see table.md"


def test_differences_rest_on_pretrainings(tmp_path):
    pretrain = VALUES["pretrain"] | {"p": {"task": "mfm", "seeds": [5, 6]}}
    found = compared("size", tmp_path, pretrain=pretrain, seeds=[0, 1, 2, 3])
    row = cells(found, "32", "mfm")[0]
    gaps = of(found, "32", "mfm") - of(found, "32", "scratch")
    means = np.array([gaps[[0, 2]].mean(), gaps[[1, 3]].mean()])
    assert row[3] == "4 from 2"
    assert row[6] == difference(means, 0)


def test_a_value_may_be_several_pretrainings(tmp_path):
    study = {"seeds": {"key": "pretrain.p.seeds", "values": [[6, 7], [8, 9]]}}
    found = compared("seeds", tmp_path, variants=study)
    assert cells(found, "6-7", "mfm")[0][3] == "3 from 2"


TOP1 = {
    "fraction-0.5": {"scratch": [70, 72, 71], "mfm": [75, 76.5, 76], "few": [70, 71.5, 72]},
    "images_per_class-10": {"scratch": [50, 55, 52], "mfm": [58, 64, 60.5], "few": [52, 51, 53]},
    "batch-4_epochs-9_images_per_class-2": {
        "scratch": [20, 30, 25],
        "mfm": [21, 28, 27],
        "few": [19, 28, 22],
    },
}


@pytest.fixture
def labels(tmp_path):
    return compared("labels", tmp_path, top1=TOP1, images=LABELS)


def test_amounts_of_labels_are_in_their_order(labels):
    order = [row[1] for row in cells(labels) if len(row) == 9][2:]
    assert order == ["20"] * 3 + ["100"] * 3 + ["200"] * 3
    [row] = cells(labels, "fraction-0.5", "200", "mfm")
    assert row[3:5] == [top1(of(labels, "fraction-0.5", "mfm")), "3 from 1"]
    half = of(labels, "fraction-0.5", "mfm")
    assert row[5] == difference(half, of(labels, "images_per_class-10", "mfm"))
    assert row[7] == difference(half, of(labels, "fraction-0.5", "scratch"))
    assert row[8] == "suggestive (higher)"
    text = page(labels)
    assert "more of them include the fewer" in text
    assert "batch-4_epochs-9_images_per_class-2: 9 epochs of batch 4." in text
    assert "Otherwise 4 epochs of batch 8" in text


def test_other_versions_of_the_code_are_told(labels):
    assert "Warning" not in page(labels)
    labels.rows.loc[0, "code_version"] = "1+b"
    assert "different versions of the code" in page(labels)


def test_one_seed_gives_a_page_and_curves_without_intervals(tmp_path):
    found = compared("loss", tmp_path, seeds=[0])
    assert cells(found, "bce", "mfm")[0][7] == "no verdict"
    style.save(draw_study(found), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_a_figure_has_a_curve_for_each_arm_and_marks_the_own_value(labels, tmp_path):
    (axis,) = draw_study(labels).axes
    assert axis.get_xscale() == "log"
    curves = {
        each.get_label(): each.lines[0] for each in axis.containers if hasattr(each, "has_yerr")
    }
    assert list(curves) == ["scratch", "mfm", "few"]
    assert curves["mfm"].get_xdata().tolist() == [20, 100, 200]
    assert curves["mfm"].get_ydata() == pytest.approx([76 / 3, 182.5 / 3, 227.5 / 3])
    assert axis.lines[0].get_xdata() == [100, 100]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["20", "100", "200"]

    (axis,) = draw_study(compared("size", tmp_path / "size")).axes
    assert axis.get_xticks().tolist() == [32, 34, 36]
    assert axis.lines[0].get_xdata() == [34, 34]

    # What the values don't change is drawn where it is compared with.
    (axis,) = draw_study(compared("crop", tmp_path / "crop")).axes
    assert [each.get_label() for each in axis.containers] == ["scratch", "mfm"]
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        "0.2-0.9",
        "0.67-0.9",
        "0.1-0.9",
    ]
