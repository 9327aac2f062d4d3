"""Which arms are compared, and what is said of each comparison; the words open the table."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished import GAINS, plant
from scipy import stats

from mfm.errors import UserError
from mfm.reporting import answer, verdict, words
from mfm.statistics.over_seeds import Difference, Estimate, holm

ZERO = (0.0,) * 8
NOISE = (0.3, -0.2, 0.1, -0.4, 0.25, -0.1, 0.2, -0.15)
LONG = tuple(gain + more for gain, more in zip(GAINS, NOISE, strict=True))
ALL = {"scratch": ZERO, "mfm": GAINS, "scratch-long": LONG, "supervised": (5.1, 5.3, 5.0)}


def compared(gains=ALL, **more):
    return verdict.compare(*plant(gains, **more))


def p_of(found):
    return [found.difference.p, found.difference.exact_p]


def pairs_of(found):
    return [(each.arm, each.other) for each in found]


def test_the_question_is_tested_alone_and_all_others_share_one_correction():
    found = compared(pretrainings=8)
    assert pairs_of(found) == [
        ("mfm", "scratch"),
        ("scratch-long", "scratch"),
        ("supervised", "scratch"),
        ("mfm", "scratch-long"),
    ]
    first, *others = found
    assert first.primary
    assert (first.level, first.difference.adjusted) == (0.95, None)
    p = [
        stats.ttest_1samp(gaps, 0).pvalue
        for gaps in (LONG, ALL["supervised"], np.subtract(GAINS, LONG))
    ]
    assert [each.difference.p for each in others] == pytest.approx(p)
    assert [each.difference.adjusted for each in others] == pytest.approx(holm(p))
    exact = holm([each.difference.exact_p for each in others])
    assert [each.difference.adjusted_exact for each in others] == pytest.approx(exact)
    assert [each.level for each in others] == pytest.approx([1 - 0.05 / 3] * 3)
    assert not any(each.primary for each in others)


def test_without_a_question_all_share_one_correction():
    found = compared(question=None)
    assert pairs_of(found)[0] == ("mfm", "scratch")
    assert {each.difference.comparisons for each in found} == {4}
    assert not any(each.primary for each in found)


@pytest.mark.parametrize("asked", [("mfm", "scratch"), ("scratch", "mfm")])
def test_a_pair_is_compared_once_whichever_way_it_is_asked(asked):
    question = dict(zip(("arm", "baseline"), asked, strict=True))
    found = compared({"scratch": ZERO, "mfm": GAINS}, question=question)
    assert pairs_of(found) == [asked]
    [gap] = verdict.differences_from_baseline(
        *plant({"scratch": ZERO, "mfm": GAINS}, question=question)
    ).values()
    interval = stats.ttest_1samp(GAINS, 0).confidence_interval(0.95)
    assert (gap.mean, gap.low, gap.high) == pytest.approx((1, interval.low, interval.high))
    assert gap.verdict == "better"


def test_a_question_may_have_another_baseline_than_the_table():
    asked = {"arm": "mfm", "baseline": "supervised"}
    found = compared(question=asked, pretrainings=8)
    assert pairs_of(found)[0] == ("mfm", "supervised")
    assert len(found) == 5
    assert {each.difference.comparisons for each in found[1:]} == {4}


def test_a_comparison_rests_on_pretrainings_where_an_arm_has_several():
    [found] = compared({"scratch": ZERO, "mfm": GAINS}, pretrainings=4)
    means = [np.mean([GAINS[k], GAINS[k + 4]]) for k in range(4)]
    assert found.difference.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert (found.difference.units, found.unit, found.given) == (4, "pretraining", "")
    [found] = compared({"scratch": ZERO, "mfm": GAINS})
    assert (found.difference.units, found.unit) == (8, "seed")


GIVEN = {"weights": "ResNet18_Weights.IMAGENET1K_V1"}


@pytest.mark.parametrize(
    ("gains", "more", "given"),
    [
        ({"scratch": ZERO, "mfm": GAINS}, {}, "this one pretraining"),
        ({"scratch": ZERO, "mfm": GAINS}, {"pretrainings": 2}, ""),
        ({"scratch": ZERO, "mfm": GAINS}, {"arms": {"mfm": GIVEN}}, "these weights"),
        ({"mfm": GAINS, "supervised": ZERO}, {}, "this one pretraining of each"),
        (
            {"mfm": GAINS, "supervised": ZERO},
            {"pretrainings": 8},
            "this one pretraining of supervised",
        ),
        (
            {"mfm": GAINS, "supervised": ZERO},
            {"arms": {"supervised": GIVEN}},
            "this one pretraining and these weights",
        ),
        ({"scratch": ZERO, "scratch2": GAINS}, {}, ""),
    ],
)
def test_what_a_verdict_is_given_is_said(gains, more, given):
    arm, other = sorted(gains, key=list(gains).index, reverse="scratch" in gains)
    question = {"arm": arm, "baseline": other}
    [found] = compared(gains, **{"question": question, "baseline": other} | more)
    assert found.given == given
    said = answer.answer(plant(gains, question=question, baseline=other, **more)[0], found, [])
    assert (f"iven {given}" in said) == bool(given)


def predict(folder, arm, seed, correct, paths=None):
    path = folder / f"evaluate/{arm}/seed{seed}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{k}.png" for k in range(len(correct))] if paths is None else paths
    pq.write_table(pa.table({"path": names, "correct": pa.array(list(correct))}), path)


def test_images_are_read_from_the_predictions(tmp_path):
    generator = np.random.default_rng(0)
    hits = {arm: generator.random((2, 60)) < 0.8 for arm in ("scratch", "mfm")}
    top1 = {arm: [100 * hits[arm][s].mean() for s in (0, 1)] for arm in hits}
    ours, rows = plant({"scratch": (0, 0), "mfm": (0, 0)}, results=str(tmp_path))
    for arm, right in hits.items():
        for seed in (0, 1):
            predict(tmp_path, arm, seed, right[seed])
            rows.loc[(rows["arm"] == arm) & (rows["seed"] == seed), "top1"] = top1[arm][seed]
    [found] = verdict.compare(ours, rows, verdict.load_right(rows))
    gained = (hits["mfm"] & ~hits["scratch"]).sum() / 2
    assert (found.images.pairs, found.images.images, found.images.gained) == (2, 60, gained)
    assert found.bootstrap.mean == pytest.approx(found.difference.mean)


def test_seeds_that_do_not_pair_have_no_test_over_images(tmp_path):
    ours, rows = plant({"scratch": (0, 1, 0), "mfm": (0, 0, 0)}, results=str(tmp_path))
    rows = rows[(rows["arm"] == "mfm") == (rows["seed"] < 2)]
    rows = rows[~((rows["arm"] == "mfm") & (rows["seed"] == 2))]
    both = rows[rows["arm"] == "scratch"].assign(seed=3, top1=79.0)
    both["checkpoint"] = both["checkpoint"].str.replace("seed2", "seed3")
    rows = pd.concat([rows, both])
    for arm, seed in zip(rows["arm"], rows["seed"], strict=True):
        predict(tmp_path, arm, seed, np.arange(40) > seed)
    [found] = verdict.compare(ours, rows, verdict.load_right(rows))
    assert (found.difference.method, found.images) == ("welch", None)
    assert found.bootstrap is not None


def test_missing_predictions_leave_the_verdict_over_seeds(tmp_path):
    ours, rows = plant({"scratch": ZERO, "mfm": GAINS}, results=str(tmp_path))
    predict(tmp_path, "mfm", 0, [True, False])
    right = verdict.load_right(rows)
    assert list(right) == ["mfm"]
    [found] = verdict.compare(ours, rows, right)
    assert found.images is found.bootstrap is None
    assert found.difference.verdict == "better"


def test_runs_on_different_images_are_refused(tmp_path):
    _, rows = plant({"scratch": ZERO, "mfm": GAINS}, results=str(tmp_path))
    predict(tmp_path, "mfm", 0, [True, False])
    predict(tmp_path, "scratch", 0, [True, False], paths=["0.png", "other.png"])
    with pytest.raises(UserError, match="different images"):
        verdict.load_right(rows)


# The opening sentence

LESS = tuple(-gain for gain in GAINS)
BARELY = (1.5, 1.0, 0.1, 0.2, 1.9, 0.9)  # by the t test alone: five pretrainings or one sign less
TIE = NOISE
AT_COST = {"question": {"arm": "mfm", "baseline": "scratch-long"}}


def opening(gains, *, numbers=True, **more):
    ours, rows = plant(gains, **{"pretrainings": len(gains["mfm"])} | more)
    return answer.opening(ours, verdict.compare(ours, rows), numbers=numbers)


def test_only_a_clear_verdict_says_that_an_arm_is_not_worth_its_cost():
    """An interval that holds zero leaves it open."""
    cases = {"mfm": LESS}, {"mfm": TIE}, {"mfm": (-0.5, 1.5, 2.0)}, {"mfm": LESS[:4]}
    texts = [opening({"scratch": (0.0,) * len(each["mfm"])} | each) for each in cases]
    assert [text.startswith("Not worth") for text in texts] == [True, False, False, False]
    assert all(text.startswith("Not shown to be worth its cost here: ") for text in texts[1:])


@pytest.mark.parametrize(
    ("gains", "more", "said"),
    [
        (
            {"mfm": GAINS},
            {},
            r"mfm is better than scratch by 1\.00 points \(interval \+0\.90 to \+1\.10\)\.",
        ),
        ({"mfm": GAINS}, {"pretrainings": 1}, r"Given this one pretraining, mfm is better than .*"),
        ({"mfm": LESS}, {}, r"Not worth its cost here: mfm is worse than scratch by 1\.00 .*"),
        (
            {"mfm": TIE},
            {},
            r"Not shown to be worth its cost here: mfm is not distinguishable from scratch: .*",
        ),
        (
            {"mfm": TIE},
            {"pretrainings": 1},
            r"Not shown to be worth its cost here, given this one pretraining: mfm is not dist.*",
        ),
        (
            {"mfm": (0.5, 0.52, 0.54)},
            {"pretrainings": 1},
            r"Suggestive, not clear, given this one pretraining: mfm is higher than scratch by .*",
        ),
        ({"mfm": GAINS}, {"pretrainings": 4}, r"Suggestive, not clear: mfm is higher than .*"),
        (
            {"mfm": LESS},
            {"pretrainings": 4},
            r"Not shown to be worth its cost here: mfm is lower than .*, which is suggestive\.",
        ),
        ({"mfm": (1.0,)}, {}, r"No verdict on mfm and scratch: \+1\.00 points, and an interval .*"),
        ({"mfm": (1.0,) * 8}, {}, r"No verdict on .*: all pretrainings differ by the same \+1.*"),
        # A question about scratch has no cost of its own.
        (
            {"mfm": GAINS},
            {"question": {"arm": "scratch", "baseline": "mfm"}},
            r"scratch is worse than mfm by 1\.00 .*",
        ),
        # Only longer training explains it.
        (
            {"mfm": GAINS, "scratch-long": LONG},
            {},
            r"mfm is better than scratch by .*, but not shown to be worth its cost here: scratch "
            r"trained as long \(scratch-long\) is not distinguishable from it\.",
        ),
        (
            {"mfm": GAINS, "scratch-long": np.multiply(GAINS, 3)},
            {},
            r"mfm is better than scratch by .*, but not worth its cost here: scratch trained as "
            r"long \(scratch-long\) is better than it\.",
        ),
        (
            {"mfm": GAINS, "scratch-long": TIE},
            {},
            r"mfm is better than scratch by .*, and better than scratch trained as long .*",
        ),
        (
            {"mfm": GAINS[:6], "scratch-long": np.subtract(GAINS[:6], BARELY)},
            {},
            r"mfm is better than scratch by .*, but not shown to be worth its cost here: its "
            r"gain over scratch trained as long \(scratch-long\) is suggestive\.",
        ),
        (
            {"mfm": GAINS, "scratch-long": LONG},
            AT_COST,
            r"Not shown to be worth its cost here: mfm is not distinguishable from scratch trained "
            r"as long \(scratch-long\): [+-]0\.\d\d points \(interval .*\)\.",
        ),
        (
            {"mfm": GAINS, "scratch-long": TIE},
            AT_COST,
            r"mfm is better than scratch trained as long \(scratch-long\) by 1\.00 points .*",
        ),
        # Another pretrained arm costs as much.
        (
            {"mfm": TIE, "supervised": ZERO},
            {"question": {"arm": "mfm", "baseline": "supervised"}},
            r"Given this one pretraining of supervised, mfm is not distinguishable from super.*",
        ),
        # Without a question.
        ({"mfm": GAINS}, {"question": None}, r"mfm is better than scratch by 1\.00 points .*"),
        (
            {"mfm": GAINS, "scratch-long": LONG, "supervised": (5.1, 5.3, 5.0)},
            {"question": None},
            r"Compared with scratch, mfm is better, but not shown to be worth its cost here: "
            r"scratch trained as long \(scratch-long\) is not distinguishable from it; "
            r"scratch-long is better; "
            r"supervised \(given this one pretraining\) is higher, which is suggestive\.",
        ),
    ],
)
def test_the_first_sentence_answers(gains, more, said):
    full = {"scratch": (0.0,) * len(gains["mfm"])} | gains
    text = opening(full, **more)
    assert re.fullmatch(said, text), text
    assert len(re.findall(r"\d+(?:\.\d+)?", text.replace("n 2 runs", ""))) <= 3
    without = opening(full, numbers=False, **more)
    assert without.split()[:3] == text.split()[:3]
    assert not re.findall(r"[-+\d]+\.\d+|interval [-+]", without)


def test_an_experiment_of_one_arm_has_no_answer():
    ours, rows = plant({"scratch": ZERO}, question=None)
    assert answer.opening(ours, verdict.compare(ours, rows)).startswith("No verdict")


# Words


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "-"), (0.00001, "< 0.0001"), (0.0312, "0.031"), (0.5, "0.50"), (1.0, "1.00")],
)
def test_p_values_read_well(p, text):
    assert words.p_text(p) == text


def test_nothing_is_minus_zero_and_percentages_end_at_0_and_100():
    gap = Difference(method="paired", n=3, units=3, mean=-0.001, low=-0.004, high=0.003)
    assert words.difference(gap) == "+0.00 (+0.00 to +0.00)"
    top1 = Estimate(n=2, units=2, mean=98.0, deviation=3.0, low=71.0, high=125.0)
    assert words.percentage(top1)[1] == " (71.00 to 100.00)"
    assert words.share_limits(Estimate(n=2, units=2, mean=1, deviation=3, low=-9, high=11)) == (
        0.0,
        11,
    )


def test_times_of_a_column_have_one_unit():
    for seconds, unit, shown in (
        ([119.0, 20.0], "s", ["119", "20"]),
        ([132.0, 119.0, 21.0], "min", ["2.2", "2.0", "0.35"]),
        ([90000.0, 600.0], "h", ["25.0", "0.17"]),
    ):
        assert words.unit_of(seconds) == unit
        assert [words.in_unit(each, unit) for each in seconds] == shown
