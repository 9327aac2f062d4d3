import csv
import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from torch import nn

from mfm.evaluation.results import COLUMNS, collect_rows
from mfm.experiment.settings import Experiment
from mfm.models.weights import save_weights
from mfm.reporting import columns, table
from mfm.reporting.document import Column
from mfm.reporting.finished import Finished
from mfm.reporting.render_csv import to_csv
from mfm.reporting.render_html import to_html
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import parse

# In another order than the results, and than the alphabet.
ARMS = {
    "scratch": "scratch",
    "supervised": {"pretrain": "labels"},
    "mfm": {"pretrain": "masked"},
}
TOP1 = {
    "mfm": {0: 83.1, 1: 82.4, 2: 83.3},
    "scratch": {0: 81.2, 1: 81.0, 2: 81.9},
    "supervised": {0: 81.3, 1: 80.8, 2: 81.95},
}
SUMMARY = {
    "classes": ["a", "b", "c"],
    "name": "fashion-mnist",
    "splits": {"train": {"images": 60010}, "pretrain": {"images": 9000}},
}


def experiment(**more):
    values = {
        "pretrain": {
            "masked": {"task": "mfm", "epochs": 4},
            "labels": {"task": "supervised", "epochs": 4},
        },
        "arms": ARMS,
        "finetune": {"epochs": 30},
    }
    return parse(Experiment, values | more, where="test")


def result(arm, seed, top1, folder, **more):
    return {
        "arm": arm,
        "pretraining": {"mfm": "masked", "supervised": "labels"}.get(arm, "-"),
        "seed": seed,
        "top1": top1,
        "top5": 99.0,
        "loss": 0.5,
        "images": 10000,
        "epochs": 30,
        "train_images": 1000,
        "images_per_second": 900.0 + seed,
        "seconds": 40.0,
        "code_version": "1.0+aaaaaaaaaa",
        "config_hash": f"{seed:012d}",
        "checkpoint": f"{folder}/finetune/{arm}/seed{seed}/model.safetensors",
    } | more


def results(top1=TOP1, folder="results", **more):
    return pd.DataFrame(
        [
            result(arm, seed, value, folder, **more)
            for arm, values in top1.items()
            for seed, value in values.items()
        ]
    )


def found(folder, *, rows=None, summary=SUMMARY, seconds=None, **more):
    return Finished(
        experiment=experiment(results=str(folder), **more),
        results=results(folder=folder) if rows is None else rows,
        pretrain_seconds={"masked": 90.0, "labels": 600.0} if seconds is None else seconds,
        summary=summary,
    )


def render(folder, **more):
    return to_markdown(table.document(found(folder, **more)))


def test_a_column_is_one_entry(tmp_path, monkeypatch):
    more = Column("top-5", lambda arm: f"{arm.rows['top5'].mean():.1f}", unit="%")
    monkeypatch.setattr(columns, "COLUMNS", [*columns.COLUMNS, more])
    monkeypatch.setattr(table, "COLUMNS", columns.COLUMNS)
    assert {row["top-5 (%)"] for row in measured(render(tmp_path)).values()} == {"99.0"}
    rows = table.measured(found(tmp_path), [])
    html = to_html([rows], folder=tmp_path, level=2)
    assert "<th>top-5 (%)</th>" in html
    assert html.count("<td>99.0</td>") == 3
    head, *lines = csv.reader(to_csv(rows).splitlines())
    assert head[0] == "arm"
    assert head[-1] == "top-5 (%)"
    assert [(line[0], line[-1]) for line in lines] == [(arm, "99.0") for arm in ARMS]


def test_what_is_said_of_labels_depends_on_no_task(tmp_path):
    text = render(tmp_path)
    assert text.count("sees labels") == 1
    assert "'masked' is trained by this pipeline on all labelled" not in text


def tables(text):
    """{heading: rows as dicts} of each Markdown table."""
    found = {}
    for heading, part in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.S | re.M):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
        head, rule, *body = cells
        assert set(rule) == {"---"}
        assert {len(row) for row in cells} == {len(head)}
        found[heading] = [dict(zip(head, row, strict=True)) for row in body]
    return found


def measured(text):
    return {row["arm"]: row for row in tables(text)["Measured here"]}


def numbers(cell):
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", cell)]


def test_arms_follow_the_configuration(tmp_path):
    assert list(measured(render(tmp_path))) == list(ARMS)
    turned = dict(reversed(ARMS.items()))
    assert list(measured(render(tmp_path, arms=turned))) == list(turned)


@pytest.mark.parametrize("arm", ARMS)
def test_mean_deviation_and_interval_are_right(tmp_path, arm):
    row = measured(render(tmp_path))[arm]
    values = np.array(list(TOP1[arm].values()))
    assert row["top-1 (%)"] == f"**{values.mean():.2f}**"
    assert row["n"] == "3"
    assert row["sd"] == f"{values.std(ddof=1):.2f}"
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert row["95% interval"] == f"{interval.low:.2f} to {interval.high:.2f}"


@pytest.mark.parametrize("arm", ["supervised", "mfm"])
def test_differences_are_paired_over_seeds(tmp_path, arm):
    row = measured(render(tmp_path))[arm]
    ours, base = (np.array([TOP1[name][seed] for seed in range(3)]) for name in (arm, "scratch"))
    interval = stats.ttest_rel(ours, base).confidence_interval(0.95)
    assert row["difference from scratch"] == f"{(ours - base).mean():+.2f}"
    expected = f"{interval.low:+.2f} to {interval.high:+.2f}"
    assert row["95% interval of the difference"] == expected
    low, high = interval
    # the clearer one of two comparisons is judged at 2.5%
    clear = 2 * stats.ttest_rel(ours, base).pvalue < 0.05
    better = "better" if low > 0 and clear else "not distinguishable with 3 seeds"
    assert row["verdict"] == better
    assert high > 0
    assert "paired over the arms' common seeds" in render(tmp_path)


def test_verdicts_go_both_ways(tmp_path):
    top1 = {
        "scratch": {0: 80.0, 1: 81.0, 2: 82.0},
        "supervised": {0: 70.0, 1: 71.1, 2: 72.0},
        "mfm": {0: 90.0, 1: 91.1, 2: 92.0},
    }
    rows = measured(render(tmp_path, rows=results(top1, tmp_path)))
    assert [rows[arm]["verdict"] for arm in ARMS] == ["baseline", "worse", "better"]


def test_another_baseline_is_compared_with(tmp_path):
    rows = measured(render(tmp_path, baseline="mfm"))
    assert rows["mfm"]["verdict"] == "baseline"
    assert rows["mfm"]["difference from mfm"] == "-"
    values = [np.mean(list(TOP1[arm].values())) for arm in ("scratch", "mfm")]
    assert rows["scratch"]["difference from mfm"] == f"{values[0] - values[1]:+.2f}"


def test_other_seeds_are_told_as_welchs(tmp_path):
    top1 = TOP1 | {"mfm": {5: 83.1, 6: 82.4, 7: 83.3}}
    text = render(tmp_path, rows=results(top1, tmp_path))
    ours, base = (list(top1[arm].values()) for arm in ("mfm", "scratch"))
    interval = stats.ttest_ind(ours, base, equal_var=False).confidence_interval(0.95)
    expected = f"{interval.low:+.2f} to {interval.high:+.2f}"
    assert measured(text)["mfm"]["95% interval of the difference"] == expected
    assert "Welch" in text


def test_a_single_seed_shows_no_spread(tmp_path):
    top1 = {arm: {0: values[0]} for arm, values in TOP1.items()}
    rows = measured(render(tmp_path, rows=results(top1, tmp_path)))
    for arm, row in rows.items():
        assert row["n"] == "1"
        assert row["sd"] == row["95% interval"] == row["95% interval of the difference"] == "-"
        assert row["top-1 (%)"] == f"**{TOP1[arm][0]:.2f}**"
    assert rows["mfm"]["difference from scratch"] == "+1.90"
    assert "2 seeds" in rows["mfm"]["verdict"]


def test_arms_without_results_are_left_out(tmp_path):
    top1 = {arm: TOP1[arm] for arm in ("scratch", "mfm")}
    assert list(measured(render(tmp_path, rows=results(top1, tmp_path)))) == ["scratch", "mfm"]


def test_epochs_time_and_speed(tmp_path):
    rows = measured(render(tmp_path))
    assert [rows[arm]["epochs"] for arm in ARMS] == ["30", "4 + 30", "4 + 30"]
    expected = ["40 s", "10.0 min + 40 s", "90 s + 40 s"]
    assert [rows[arm]["training time"] for arm in ARMS] == expected
    assert [rows[arm]["images/s"] for arm in ARMS] == ["901"] * 3


def test_the_setting_is_told(tmp_path):
    text = render(tmp_path)
    assert text.startswith("# resnet18 on fashion-mnist")
    for fact in ("10,000 images", "'val'", "3 classes", "1,000 labelled", "30 epochs"):
        assert fact in text
    held = render(tmp_path, dataset={"holdout_per_class": 5})
    assert "'holdout'" in held
    assert "'val'" not in held


def test_the_supervised_arm_is_told_for_what_it_is(tmp_path):
    note = next(line for line in render(tmp_path).splitlines() if "'labels'" in line)
    for fact in (
        "all labelled training images",
        "4 epochs, as many as 'masked'",
        "not torchvision",
    ):
        assert fact in note
    pretrain = {
        "masked": {"task": "mfm", "epochs": 5},
        "labels": {"task": "supervised", "epochs": 4},
    }
    assert "as many as" not in render(tmp_path, pretrain=pretrain)


def test_links_are_relative_and_lead_to_files(tmp_path):
    folder = tmp_path / "results"
    rows = results(folder=folder)
    for name in [
        *rows["checkpoint"],
        *(f"{folder}/pretrain/{p}/backbone.safetensors" for p in ("masked", "labels")),
    ]:
        path = folder / name
        path.parent.mkdir(parents=True)
        path.touch()
    (folder / "plan.md").touch()
    text = render(folder, rows=rows)
    links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", text.split("## Published")[0])
    assert len(links) == 9 + 2 + 1
    for _, target in links:
        assert not target.startswith("/")
        assert (folder / target).is_file()
    for arm, row in measured(text).items():
        targets = re.findall(r"\[seed (\d)\]\(([^)]+)\)", row["finetune"])
        assert targets == [
            (str(seed), f"finetune/{arm}/seed{seed}/model.safetensors") for seed in range(3)
        ]
    assert measured(text)["scratch"]["pretrain"] == "-"
    assert measured(text)["mfm"]["pretrain"].startswith("[masked](pretrain/masked/")


def test_relative_folders_give_the_same_links():
    text = render("results/own/", rows=results(folder="results/own"), seconds={})
    assert "(finetune/mfm/seed0/model.safetensors)" in text


def test_given_weights_are_named(tmp_path):
    arms = {"scratch": "scratch", "mfm": {"weights": "ResNet18_Weights.IMAGENET1K_V1"}}
    row = measured(render(tmp_path, arms=arms))["mfm"]
    assert row["pretrain"] == "ResNet18_Weights.IMAGENET1K_V1"
    assert row["epochs"] == "30"


def test_code_versions_that_differ_are_warned_of(tmp_path):
    rows = results(folder=tmp_path)
    rows.loc[rows["arm"] == "mfm", "code_version"] = "1.1+bbbbbbbbbb"
    warning = next(line for line in render(tmp_path, rows=rows).splitlines() if "Warning" in line)
    assert "1.0+aaaaaaaaaa: finetuning of scratch, supervised" in warning
    assert "1.1+bbbbbbbbbb: finetuning of mfm" in warning


def test_seeds_of_one_arm_that_differ_in_code_are_warned_of(tmp_path):
    rows = results(folder=tmp_path)
    rows.loc[0, "code_version"] = "1.1+bbbbbbbbbb"
    assert "Warning" in render(tmp_path, rows=rows)


def test_one_code_version_is_no_warning(tmp_path):
    text = render(tmp_path)
    assert "arning" not in text
    assert "Code version 1.0+aaaaaaaaaa" in text


def test_published_rows_of_another_dataset_are_below_and_not_comparable(tmp_path):
    text = render(tmp_path)
    headings = list(tables(text))
    assert headings[:3] == ["Measured here", "Verdict", "Cost"]
    assert len(headings) == 5
    for heading, publisher in zip(headings[3:], ("by upstream", "in the paper"), strict=True):
        assert heading.startswith(f"Published {publisher}")
        assert "not comparable" in heading
        assert "resnet18 on fashion-mnist" in heading


@pytest.mark.parametrize(
    ("name", "backbone"), [("imagenet-1k", "resnet18"), ("fashion-mnist", "resnet50")]
)
def test_one_thing_in_common_is_not_comparable(tmp_path, name, backbone):
    text = render(tmp_path, dataset={"name": name}, model={"backbone": backbone})
    assert "same dataset and backbone" not in text
    assert len(tables(text)) == 5


def test_published_rows_of_the_same_dataset_and_backbone_are_marked_so(tmp_path):
    found = tables(
        render(tmp_path, dataset={"name": "imagenet-1k"}, model={"backbone": "resnet50"})
    )
    same = {
        heading: rows for heading, rows in found.items() if "same dataset and backbone" in heading
    }
    other = {heading: rows for heading, rows in found.items() if "not comparable" in heading}
    assert len(found) == 3 + len(same) + len(other)
    assert list(found)[3:] == [*same, *other]
    assert [len(rows) for rows in same.values()] == [6, 6]
    assert {row["backbone"] for rows in same.values() for row in rows} == {"resnet50"}
    assert {row["backbone"] for rows in other.values() for row in rows} == {"vit_base_patch16_224"}


def published(path="published.csv"):
    with (files("mfm.reporting") / path).open(newline="") as file:
        return list(csv.DictReader(file))


# (publisher, row, backbone, pretraining epochs, finetuning epochs): top-1
FIGURES = {
    ("paper", "scratch", "resnet50", "0", "100"): "78.1",
    ("paper", "mfm", "resnet50", "300", "100"): "78.5",
    ("upstream", "scratch", "resnet50", "0", "100"): "78.542",
    ("upstream", "supervised", "resnet50", "0", "100"): "78.942",
    ("upstream", "mfm", "resnet50", "300", "100"): "78.826",
    ("upstream", "scratch with CE, ablation", "resnet50", "0", "100"): "78.542",
    ("upstream", "scratch with BCE, ablation", "resnet50", "0", "100"): "78.952",
    ("upstream", "mfm, mean of 12 runs", "resnet50", "300", "100"): "78.621",
    ("paper", "sr", "resnet50", "300", "100"): "77.9",
    ("paper", "deblur", "resnet50", "300", "100"): "78.0",
    ("paper", "denoise", "resnet50", "300", "100"): "77.5",
    ("paper", "mfm", "resnet50", "300", "300"): "80.1",
    ("paper", "sr", "vit_base_patch16_224", "300", "100"): "82.4",
    ("paper", "deblur", "vit_base_patch16_224", "300", "100"): "81.7",
    ("paper", "denoise", "vit_base_patch16_224", "300", "100"): "82.7",
    ("paper", "mfm", "vit_base_patch16_224", "300", "100"): "83.1",
}


def test_published_figures_are_these():
    found = {
        (
            row["publisher"],
            row["row"].split(" (")[0],
            row["backbone"],
            row["pretrain_epochs"],
            row["finetune_epochs"],
        ): row["top1"]
        for row in published()
    }
    assert found == FIGURES
    assert len(published()) == len(FIGURES)


def test_every_published_figure_has_a_source():
    for row in published():
        # a commit, because upstream's README has changed its figures
        assert re.fullmatch(
            r"https://github\.com/(CoinCheung|Jiahao000)/MFM/blob/[0-9a-f]{40}/README\.md",
            row["source"],
        )
        assert row["dataset"] == "imagenet-1k"


def test_what_is_known_against_upstreams_figures_is_said():
    notes = {row["row"]: row["note"] for row in published() if row["publisher"] == "upstream"}
    assert "12 runs" in notes["mfm"]
    assert "contradict" in notes["scratch"]
    for figure in ("78.542", "78.952", "BCE"):
        assert figure in notes["scratch"]
    assert "77.952" in notes["scratch with BCE, ablation"]


def test_the_mean_of_upstreams_12_runs_is_that_of_their_figures():
    # 4 pretrainings x 3 finetunings, in the README at the commit given as source
    runs = [78.654, 78.61, 78.668, 78.646, 78.79, 78.49, 78.516, 78.626, 78.694]
    runs += [78.608, 78.668, 78.476]
    [row] = [row for row in published() if "12" in row["row"]]
    assert abs(np.mean(runs) - float(row["top1"])) < 0.001
    for figure in (min(runs), max(runs), np.std(runs, ddof=1)):
        assert f"{figure:.3f}" in row["note"]


def test_every_published_figure_is_in_the_table_as_it_was_published(tmp_path):
    rows = [
        row
        for heading, rows in tables(render(tmp_path)).items()
        if "Pub" in heading
        for row in rows
    ]
    assert sorted(row["top-1 (%)"] for row in rows) == sorted(FIGURES.values())
    for row in rows:
        assert row["source"].startswith("https://")
    epochs = {row["epochs"] for row in rows}
    assert epochs == {"100", "300 + 100", "300 + 300"}


def test_no_cell_breaks_its_table():
    for row in published():
        assert not [cell for cell in row.values() if "|" in cell or "\n" in cell]


def test_rows_of_evaluations_are_collected_with_their_columns(tmp_path):
    paths = []
    for number, row in enumerate(results().to_dict("records")):
        paths.append(tmp_path / f"{number}.csv")
        pd.DataFrame([row])[list(COLUMNS)].to_csv(paths[-1], index=False)
    collected = collect_rows(paths)
    assert tuple(collected.columns) == COLUMNS
    assert collected.to_dict("records") == results().to_dict("records")
    # a hash of digits alone keeps its zeros
    assert list(collected["config_hash"]) == list(results()["config_hash"])


def test_a_table_of_collected_rows_is_the_same(tmp_path):
    rows = results(folder=tmp_path)
    for number in range(len(rows)):
        rows[number : number + 1].to_csv(tmp_path / f"{number}.csv", index=False)
    collected = collect_rows([tmp_path / f"{number}.csv" for number in range(len(rows))])
    summary = json.loads(json.dumps(SUMMARY))
    assert render(tmp_path, rows=collected, summary=summary) == render(tmp_path, rows=rows)


def test_unlabelled_images_are_named_for_the_pretraining_that_uses_them(tmp_path):
    assert "unlabelled" not in render(tmp_path)
    text = render(tmp_path, dataset={"unlabelled": "pool"})
    assert "'masked' is pretrained on the unlabelled images of pool" in text
    assert "'labels' is pretrained on the unlabelled" not in text


@pytest.mark.parametrize(
    ("asked", "found", "words"),
    [
        ("new", "new", "its classifier is replaced by a new one."),
        ("keep", "kept", "its classifier is kept."),
        ("keep", "new", "though the configuration asks to keep it"),
    ],
)
def test_arms_from_weights_say_where_from_and_what_became_of_the_classifier(
    tmp_path, asked, found, words
):
    arms = ARMS | {"supervised": {"weights": "w.pth", "classifier": asked}}
    rows = results(folder=tmp_path)
    for checkpoint in rows["checkpoint"]:
        said = {"initial_sha256": "ab" * 32, "classifier": found}
        save_weights(nn.Linear(1, 1), Path(checkpoint), said)
    text = render(tmp_path, rows=rows, arms=arms)
    [line] = [line for line in text.splitlines() if "starts from" in line]
    assert line.startswith(f"- 'supervised' starts from w.pth (SHA-256 {'ab' * 32}); ")
    assert words in line
