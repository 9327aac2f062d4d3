"""The metrics of stored predictions: their values, their page, and a question about one of them."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished import experiment, finish_runs, made_up, plant, planted, write_metrics_of
from scipy import stats
from sklearn import metrics as sklearn_metrics

from mfm.errors import UserError
from mfm.evaluation.classifier import save_predictions
from mfm.evaluation.metrics import BINS, METRICS, Scores
from mfm.evaluation.results import collect_rows, read_results
from mfm.experiment.layout import Layout
from mfm.reporting import answer, metrics, plan, table, verdict
from mfm.reporting.document import plain
from mfm.reporting.figures.metrics import draw_metrics
from mfm.reporting.render_markdown import to_markdown

IMAGES, CLASSES, ABSENT = 400, 7, 3


def scores(kind=np.float64, *, labels=None, k=5):
    """Random predictions with many equal probabilities; no image is of class 3, which is predicted
    all the same."""
    draws = np.random.default_rng(0)
    if labels is None:
        labels = draws.integers(0, CLASSES - 1, IMAGES)
        labels += labels >= ABSENT
    rows = np.arange(len(labels))
    raw = draws.integers(1, 6, (len(labels), CLASSES)).astype(float)
    raw[rows, labels] += draws.integers(0, 5, len(labels))
    every = raw / raw.sum(axis=1, keepdims=True)
    of_label = every[rows, labels]
    before = np.arange(CLASSES) < labels[:, None]
    above = (every > of_label[:, None]) | ((every == of_label[:, None]) & before)
    return Scores(
        classes=tuple(f"class{number}" for number in range(CLASSES)),
        labels=labels,
        predictions=every.argmax(axis=1),
        ranks=above.sum(axis=1),
        of_label=of_label,
        probabilities=every.astype(kind),
        k=k,
    )


def by_scikit_learn(name, found):
    """The same metric by scikit-learn's own function for it, on the whole matrix."""
    labels, predictions, every = found.labels, found.predictions, found.probabilities
    everyone, present = np.arange(CLASSES), np.unique(labels)
    one_hot = labels[:, None] == everyone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is predicted and never a label
        return {
            "top1": lambda: sklearn_metrics.accuracy_score(labels, predictions),
            # It takes the last of equal ones for the best, where argmax takes the first.
            "top_k": lambda: sklearn_metrics.top_k_accuracy_score(
                CLASSES - 1 - labels, every[:, ::-1], k=found.k, labels=everyone
            ),
            "balanced_accuracy": lambda: sklearn_metrics.balanced_accuracy_score(
                labels, predictions
            ),
            "macro_f1": lambda: sklearn_metrics.f1_score(
                labels, predictions, average="macro", labels=present
            ),
            "auroc": lambda: sklearn_metrics.roc_auc_score(
                one_hot[:, present], every[:, present], average="macro"
            ),
            "log_loss": lambda: sklearn_metrics.log_loss(labels, every, labels=everyone),
            "brier": lambda: sklearn_metrics.brier_score_loss(
                labels, every, labels=everyone, scale_by_half=False
            ),
        }[name]()


@pytest.mark.parametrize("name", [name for name in METRICS if name != "calibration_error"])
def test_a_metric_is_scikit_learns(name):
    found, metric = scores(), METRICS[name]
    assert len(np.unique(found.probabilities)) < found.probabilities.size / 10, "many are equal"
    assert (found.predictions == ABSENT).any()
    expected = by_scikit_learn(name, found) * (100 if metric.share else 1)
    assert metric.value(found) == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_the_calibration_error_is_the_sum_over_its_bins(kind):
    found = scores(kind)
    sure = found.probabilities.astype(float).max(axis=1)
    right = found.predictions == found.labels
    expected = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = (sure > low) & (sure <= high)
        if inside.any():
            gap = abs(right[inside].mean() - sure[inside].mean())
            expected += inside.mean() * gap
    assert METRICS["calibration_error"].value(found) == pytest.approx(100 * expected, abs=1e-9)


def test_float16_costs_the_top_and_the_log_loss_nothing():
    exact, rounded = scores(), scores(np.float16)
    for name in ("top1", "top_k", "balanced_accuracy", "macro_f1", "log_loss"):
        assert METRICS[name].value(rounded) == METRICS[name].value(exact)
    for name in ("brier", "calibration_error"):
        assert METRICS[name].value(rounded) == pytest.approx(METRICS[name].value(exact), abs=0.02)


def test_a_probability_of_zero_has_a_finite_log_loss():
    found = scores()
    found.of_label[:] = 0.0
    assert 700 < METRICS["log_loss"].value(found) < 710


def test_recall_is_of_each_class_that_has_images():
    found = scores()
    assert np.isnan(found.recalls[ABSENT])
    expected = sklearn_metrics.recall_score(
        found.labels, found.predictions, labels=found.present, average=None
    )
    np.testing.assert_allclose(found.recalls[found.present], expected, rtol=0, atol=1e-12)
    assert found.images.tolist() == np.bincount(found.labels, minlength=CLASSES).tolist()


def test_what_is_not_defined_is_not_a_number():
    alone = scores(labels=np.zeros(20, int))
    assert np.isnan(METRICS["auroc"].value(alone))
    others = [name for name in METRICS if name != "auroc"]
    assert all(np.isfinite(METRICS[name].value(alone)) for name in others)
    assert np.isnan(METRICS["top_k"].value(scores(k=CLASSES)))
    assert np.isfinite(METRICS["top_k"].value(scores(k=CLASSES - 1)))


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A finished experiment of three classes with odd names, in its own folder."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ours = experiment(folder / "results")
        rows = finish_runs(ours)
        write_metrics_of(ours, rows)
        yield ours


def read(ours):
    return metrics.read(ours, read_results(Layout(ours.results).rows))


def test_the_rows_are_those_of_each_run(ended, monkeypatch):
    found = read(ended)
    assert list(found.values.columns) == ["arm", "seed", "metric", "value"]
    assert len(found.values) == 6 * len(METRICS)
    one = found.values.set_index(["metric", "arm", "seed"])["value"]
    rows = found.results.set_index(["arm", "seed"])["top1"]
    for run, top1 in rows.items():
        assert one["top1", *run] == pytest.approx(top1)
    recalls = found.recalls[(found.recalls["arm"] == "mfm") & (found.recalls["seed"] == 2)]
    assert recalls["recall"].mean() == pytest.approx(one["balanced_accuracy", "mfm", 2])


def test_the_page_has_paired_intervals_and_no_verdicts(ended):
    found = read(ended)
    page = metrics.document(found)
    assert page.title == "resnet18 on own: what do other metrics say?"
    means, gaps = page.blocks[1], page.blocks[3]
    names = [cells[0] for cells in gaps.cells()]
    # Of three classes there are no five best.
    assert names == [
        "top-1 (points)",
        "balanced accuracy (points)",
        "macro F1 (points)",
        "AUROC (points)",
        "log loss (lower is better)",
        "Brier score (lower is better)",
        "expected calibration error (points, lower is better)",
    ]
    wide = found.values.pivot(index=["metric", "seed"], columns="arm", values="value")
    brier = wide.loc["brier"]
    gap = brier["mfm"] - brier["scratch"]
    # mfm's three runs are given one pretraining, so the units are its seeds.
    interval = stats.ttest_1samp(gap, 0).confidence_interval()
    row = gaps.cells()[names.index("Brier score (lower is better)")]
    assert row[1] == f"{gap.mean():+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
    interval = stats.ttest_1samp(brier["scratch"], 0).confidence_interval()
    assert plain(means.cells()[5][1]) == (
        f"{brier['scratch'].mean():.4f} ({interval.low:.4f} to {interval.high:.4f})"
    )
    text = to_markdown(page)
    assert "The question is about top-1: its verdict is in table.md" in text
    assert "Not defined on these images: top-5." in text
    for word in ("suggestive", "distinguishable", "better than"):
        assert word not in text


def test_the_page_of_a_thousand_classes_shows_the_ends_alone(ended, tmp_path, monkeypatch):
    ours = ended
    results = read_results(Layout(ours.results).rows)
    names = [f"n{number:04}" for number in range(1000)]
    draws = np.random.default_rng(1)
    parts = [
        pd.DataFrame({"arm": row["arm"], "seed": row["seed"], "class": names, "images": 50}).assign(
            recall=np.arange(1000) / 10 + draws.normal(0, 0.01, 1000)
        )
        for row in results.to_dict("records")
    ]
    found = metrics.Measured(
        experiment=ours, results=results, values=read(ours).values, recalls=pd.concat(parts)
    )
    page = metrics.document(found)
    section = next(
        block for block in page.blocks if getattr(block, "title", "") == "Recall by class"
    )
    shown = [cells[0] for cells in section.blocks[1].cells()]
    assert shown == [*names[:5], *names[-5:]]
    assert "metrics_classes.csv" in to_markdown(page)


def test_the_figure_has_a_panel_for_each_defined_metric(ended):
    figure = draw_metrics(read(ended))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert [title for title in titles if title] == [
        "top-1 (points)",
        "balanced accuracy (points)",
        "macro F1 (points)",
        "AUROC (points)",
        "log loss",
        "Brier score",
        "expected calibration error (points)",
    ]


LOSSES = [0.80, 0.82, 0.81, 0.79, 0.83, 0.80, 0.81, 0.78]  # of eight seeds
LOWER = [-0.031, -0.033, -0.030, -0.032, -0.034, -0.031, -0.0325, -0.0305]


def asked_about(metric, **more):
    """Eight seeds of two arms: mfm is 1 point less accurate, and clearly lower in its losses."""
    arms = {"scratch": [0.0] * 8, "mfm": [-1.0, -1.1, -0.9, -1.2, -0.8, -1.05, -0.95, -1.0]}
    question = {"arm": "mfm", "baseline": "scratch", "metric": metric}
    found = planted(arms, pretrainings=8, question=question, **more)
    lower = np.array([0.0] * 8 + LOWER)
    found.results[metric] = np.tile(LOSSES, 2) + lower
    return found


def test_a_verdict_is_about_the_declared_metric_where_lower_is_better():
    found = asked_about("log_loss")
    text = to_markdown(table.document(found))
    assert (
        "mfm is better than scratch by 0.0318 in log loss (interval -0.0329 to -0.0306; lower is "
        "better)." in text
    )
    assert "| arm | log loss, lower is better (95% interval) | less scratch" in text
    assert "What is compared is log loss on the 10,000 images" in text
    assert "| mfm | **0.773" in text
    assert "Analysed as declared." in text
    assert "The same over images" not in text
    planned = to_markdown(plan.document(found.experiment, found.results))
    assert "Found now: -0.0318 (-0.0329 to -0.0306) in log loss, better." in planned


def test_higher_losses_are_worse():
    found = asked_about("brier")
    found.results["brier"] = np.tile(LOSSES, 2) - np.array([0.0] * 8 + LOWER)
    [one] = verdict.compare(found.experiment, found.results)
    assert one.difference.verdict == "worse"
    assert not one.difference.claims_gain
    assert answer.opening(found.experiment, [one]).startswith(
        "Not worth its cost here: mfm is worse than scratch by 0.0318 in Brier score (interval +"
    )


def test_few_units_in_favour_of_lower_are_suggestive():
    found = asked_about("calibration_error")
    few = found.results[found.results["seed"] < 4]
    [one] = verdict.compare(found.experiment, few)
    assert one.difference.verdict == "suggestive (lower)"
    assert one.difference.claims_gain
    assert "Suggestive, not clear: mfm is lower than scratch by 0.03 points of expected" in (
        answer.opening(found.experiment, [one])
    )


def test_a_declared_metric_that_was_not_declared_is_told():
    found = asked_about("log_loss", declared={"metric": "top1"})
    text = to_markdown(table.document(found))
    assert "Not analysed as declared. The metric is log\\_loss, declared was top1." in text or (
        "The metric is log_loss, declared was top1." in text
    )


def test_a_declared_metric_without_values_is_told_in_one_line():
    ours, rows = plant({"scratch": [0.0] * 3, "mfm": [1.0] * 3}, question={
        "arm": "mfm", "baseline": "scratch", "metric": "auroc"
    })  # fmt: skip
    for results in (rows, rows.assign(auroc=np.nan)):
        with pytest.raises(UserError, match=r"^question\.metric: auroc has no values"):
            verdict.compare(ours, results)


def test_results_have_a_column_of_the_declared_metric(ended, tmp_path):
    layout = Layout(ended.results)
    paths = []
    for row in read_results(layout.rows).to_dict("records"):
        files = layout.evaluation(row["arm"], row["seed"])
        pd.DataFrame([row]).to_csv(files.row, index=False)
        paths.append(files.row)
    assert "macro_f1" not in collect_rows(paths)
    rows = collect_rows(paths, metric="macro_f1")
    values = read(ended).values
    expected = values[values["metric"] == "macro_f1"]["value"]
    np.testing.assert_allclose(rows["macro_f1"], expected)


def test_a_class_without_images_is_in_no_mean_and_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = experiment(
        tmp_path / "results", arms={"scratch": "scratch"}, question=None, seeds=[0, 1]
    )
    layout, draws = Layout(ours.results), np.random.default_rng(0)
    rows = []
    for seed in (0, 1):
        labels = np.repeat([0, 2], 10)
        found = made_up(labels, draws.integers(0, 3, 20), draws)
        files = layout.evaluation("scratch", seed)
        named = {"paths": ["x"] * 20, "classes": ("nan", "NA", "1"), "groups": None}
        images = type("Images", (), named)
        save_predictions(found, images, Path(files.predictions), {})
        run = layout.finetuning("scratch", seed).weights
        rows.append({"arm": "scratch", "seed": seed, "pretraining_seed": "-", "checkpoint": run})
    results = pd.DataFrame(rows)
    write_metrics_of(ours, results)
    text = to_markdown(metrics.document(metrics.read(ours, results)))
    assert "1 class has no images here, and is in no mean over classes." in text
    assert "| nan | 10 |" in text
    assert "| NA |" not in text
    assert "there are no verdicts" in text
