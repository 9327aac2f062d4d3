import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from mfm.errors import UserError
from mfm.experiment.settings import Experiment
from mfm.reporting import cost, verdict
from mfm.reporting.finished import Finished
from mfm.reporting.render_markdown import inline
from mfm.settings.section import parse
from mfm.statistics.over_seeds import holm
from mfm.statistics.power import power

TOP1 = {
    "scratch": {0: 80.0, 1: 81.0, 2: 82.0, 3: 80.5},
    "mfm": {0: 81.0, 1: 82.2, 2: 82.9, 3: 81.4},
    "supervised": {0: 80.3, 1: 80.9},
}


def experiment(**more):
    values = {
        "seeds": [0, 1, 2, 3],
        "pretrain": {
            "masked": {"task": "mfm", "epochs": 2, "batch": 100},
            "labels": {"task": "supervised", "epochs": 4, "batch": 100},
        },
        "arms": {
            "mfm": {"pretrain": "masked"},
            "scratch": "scratch",
            "supervised": {"pretrain": "labels", "seeds": [0, 1]},
        },
        "finetune": {"epochs": 30, "batch": 50, "images_per_class": 20},
    }
    return parse(Experiment, values | more, where="test")


def rows(top1=TOP1, folder="results", seconds=100.0):
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "top1": value,
                "epochs": 30,
                "train_images": 120,
                "seconds": seconds,
                "checkpoint": f"{folder}/finetune/{arm}/seed{seed}/model.safetensors",
            }
            for arm, values in top1.items()
            for seed, value in values.items()
        ]
    )


def predict(folder, arm, seed, correct, paths=None):
    path = folder / f"evaluate/{arm}/seed{seed}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{k}.png" for k in range(len(correct))] if paths is None else paths
    pq.write_table(pa.table({"path": names, "correct": pa.array(list(correct))}), path)


def comparisons(top1=TOP1, right=None, **more):
    return verdict.against_baseline(experiment(**more), rows(top1), right or {})


def told(comparison):
    return inline(verdict.sentence(comparison))


def test_every_arm_is_compared_with_the_baseline_in_the_configurations_order():
    found = comparisons()
    assert [(each.arm, each.other, each.seeds) for each in found] == [
        ("mfm", "scratch", (4, 4)),
        ("supervised", "scratch", (2, 4)),
    ]
    p = [
        stats.ttest_rel(
            [TOP1[arm][seed] for seed in TOP1[arm]], [TOP1["scratch"][seed] for seed in TOP1[arm]]
        ).pvalue
        for arm in ("mfm", "supervised")
    ]
    assert [each.difference.adjusted for each in found] == pytest.approx(holm(p))
    assert {each.level for each in found} == {0.975}


def test_the_other_arms_are_compared_among_themselves():
    found = verdict.among_others(experiment(), rows(), {})
    assert [(each.arm, each.other) for each in found] == [("supervised", "mfm")]
    assert found[0].difference.mean == pytest.approx(np.mean([80.3 - 81.0, 80.9 - 82.2]))


def test_the_sentences_say_which_by_how_much_and_with_how_many_seeds():
    first, second = (told(each) for each in comparisons())
    gains = [1.0, 1.2, 0.9, 0.9]
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert first.startswith("**mfm is better than scratch** by 1.00 points (95% interval ")
    assert f"{low:+.2f} to {high:+.2f}; 4 seed pairs; p = " in first
    assert "after Holm's correction for 2 comparisons" in first
    assert second.startswith(
        "**supervised and scratch are not distinguishable with 2 seeds**: +0.10 points"
    )
    least = float(re.search(r"has to be ([\d.]+) points", second).group(1))
    deviation = np.std([0.3, -0.1], ddof=1)
    assert power(2, least, deviation, level=0.975) == pytest.approx(0.8, abs=0.01)


def test_a_worse_arm_is_told_with_its_loss():
    turned = {"scratch": TOP1["mfm"], "mfm": TOP1["scratch"]}
    assert told(comparisons(turned)[0]).startswith(
        "**mfm is worse than scratch** by 1.00 points (95% interval -1.23 to -0.77; 4 seed pairs; p"
    )


@pytest.mark.parametrize(
    ("top1", "expected"),
    [
        ({"scratch": {0: 80.0}, "mfm": {0: 81.0}}, "needs at least 2 seeds"),
        ({"scratch": {0: 80.0, 1: 81.0}, "mfm": {0: 81.0, 1: 82.0}}, "by the same +1.00 points"),
    ],
)
def test_no_spread_is_no_verdict(top1, expected):
    text = told(comparisons(top1)[0])
    assert text.startswith("**No verdict on mfm and scratch**")
    assert expected in text


def test_a_difference_of_more_than_100_points_is_not_promised():
    text = told(comparisons({"scratch": {0: 80.0, 1: 20.0}, "mfm": {0: 50.0, 1: 60.0}})[0])
    assert "so few seeds cannot find any difference" in text


def test_other_seeds_are_told_as_such():
    top1 = {"scratch": {0: 80.0, 1: 81.0}, "mfm": {2: 81.0, 3: 83.0, 5: 82.0}}
    assert "; 3 and 2 seeds; p" in told(comparisons(top1)[0])


def test_images_are_read_from_the_predictions(tmp_path):
    generator = np.random.default_rng(0)
    hits = {arm: generator.random((2, 60)) < 0.8 for arm in ("mfm", "scratch")}
    top1 = {arm: {s: 100 * hits[arm][s].mean() for s in (0, 1)} for arm in hits}
    for arm, right in hits.items():
        for seed in (0, 1):
            predict(tmp_path, arm, seed, right[seed])
    results = rows(top1, tmp_path)
    [found] = verdict.against_baseline(experiment(), results, verdict.load_right(results))
    gained = (hits["mfm"] & ~hits["scratch"]).sum() / 2
    assert (found.images.pairs, found.images.images, found.images.gained) == (2, 60, gained)
    assert found.bootstrap.mean == pytest.approx(found.difference.mean)
    [cells] = verdict.details([found]).cells()
    assert f"{gained:,.1f}" in cells


def test_seeds_that_do_not_pair_have_no_test_over_images(tmp_path):
    top1 = {"scratch": {0: 80.0, 1: 81.0}, "mfm": {2: 81.0, 3: 83.0}}
    for arm, values in top1.items():
        for seed in values:
            predict(tmp_path, arm, seed, np.arange(40) > seed)
    results = rows(top1, tmp_path)
    [found] = verdict.against_baseline(experiment(), results, verdict.load_right(results))
    assert found.images is None
    assert found.bootstrap is not None


def test_missing_predictions_leave_the_verdict_over_seeds(tmp_path):
    predict(tmp_path, "mfm", 0, [True, False])
    right = verdict.load_right(rows(folder=tmp_path))
    assert list(right) == ["mfm"]
    found = verdict.against_baseline(experiment(), rows(folder=tmp_path), right)[0]
    assert found.images is found.bootstrap is None
    assert found.difference.verdict == "better"


def test_runs_on_different_images_are_refused(tmp_path):
    predict(tmp_path, "mfm", 0, [True, False])
    predict(tmp_path, "scratch", 0, [True, False], paths=["0.png", "other.png"])
    with pytest.raises(UserError, match="different images"):
        verdict.load_right(rows(folder=tmp_path))


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "-"), (0.00001, "< 0.0001"), (0.0312, "= 0.031"), (0.5, "= 0.50"), (1.0, "= 1.00")],
)
def test_p_values_read_well(p, text):
    assert verdict.p_text(p) == text


# The cost


def costs(experiment_):
    found = Finished(
        experiment=experiment_,
        results=rows(),
        pretrain_seconds={"masked": 500.0, "labels": 1100.0},
        summary={"splits": {"train": {"images": 1050}}},
    )
    table, notes = cost.section(found).blocks
    heads = [column.head for column in table.columns]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in table.cells()}, notes.items


def test_pretraining_is_part_of_an_arms_cost():
    found, _ = costs(experiment())
    assert list(found) == ["mfm", "scratch", "supervised"]
    assert list(found["mfm"].values())[1:] == [
        "2",
        "30",
        "2,000",  # 10 full batches of 100, twice
        "3,000",  # 2 full batches of 50, 30 times
        "8.3 min",
        "100 s",
        "10.0 min",
        "6.0",
        "15.0 min (4)",
    ]
    assert found["scratch"]["of both"] == "100 s"
    assert found["scratch"]["times scratch"] == "1.0"
    assert found["scratch"]["time of pretraining"] == "-"
    assert found["supervised"]["all seeds"] == "21.7 min (2)"


def test_given_weights_are_told_as_not_counted():
    arms = {"scratch": "scratch", "mfm": {"weights": "x.pth"}}
    found, lines = costs(experiment(arms=arms))
    assert found["mfm"]["epochs of pretraining"] == "elsewhere"
    assert any("not counted" in line for line in lines)


def test_an_arm_that_is_trained_longer_is_explained():
    arms = {
        "scratch": "scratch",
        "mfm": {"pretrain": "masked"},
        "scratch-long": {"as_long_as": "mfm"},
    }
    _, lines = costs(experiment(arms=arms))
    assert any("'scratch-long' starts from scratch" in line and "'mfm'" in line for line in lines)
