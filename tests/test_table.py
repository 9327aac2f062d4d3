"""table.md as a reader gets it: planted experiments, rendered."""

import csv
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import finished
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from finished import GAINS, SHARED, planted
from scipy import stats
from torch import nn

from mfm.evaluation.results import COLUMNS, collect_rows
from mfm.experiment.question import Declaration
from mfm.models.weights import save_weights
from mfm.reporting import answer, columns, cost, table
from mfm.reporting.document import Column
from mfm.reporting.render_csv import to_csv
from mfm.reporting.render_html import to_html
from mfm.reporting.render_markdown import to_markdown

ZERO = (0.0,) * 8
NOISE = (0.3, -0.2, 0.1, -0.4, 0.25, -0.1, 0.2, -0.15)
LONG = tuple(gain + more for gain, more in zip(GAINS, NOISE, strict=True))
TWO = {"scratch": ZERO, "mfm": GAINS}
ALL = {**TWO, "scratch-long": LONG, "supervised": (5.1, 5.3, 5.0)}


def frozen(**logistic):
    """Accuracies on frozen features: a seed's, and 3 points more by neighbours."""
    return pd.DataFrame(
        {
            "features": name,
            "seed": seed,
            "amount": "all",
            "images": 60000,
            "method": method,
            "C": 1.0,
            "top1": top1 + more + SHARED[seed] - SHARED[0],
        }
        for name, top1 in logistic.items()
        for method, more in (("logistic", 0), ("knn10", 3))
        for seed in range(8)
    )


FROZEN = {"pixels": 80.5, "random": 70.0, "mfm": 78.0, "supervised": 90.0}
# What a check of the table may plant.
CASES = {
    "a single pretraining": {"gains": TWO},
    "eight pretrainings": {"gains": ALL, "pretrainings": 8, "looks": 3},
    "four": {"gains": ALL, "pretrainings": 4, "looks": 1, "finished": 12},
    "a tie": {"gains": {"scratch": ZERO, "mfm": NOISE}, "pretrainings": 8},
    "three seeds": {"gains": {"scratch": ZERO[:3], "mfm": (0.5, 0.52, 0.54)}},
    "one seed": {"gains": {"scratch": (0.0,), "mfm": (1.0,)}},
    "equal cost is asked": {
        "gains": ALL, "pretrainings": 8,
        "question": {"arm": "mfm", "baseline": "scratch-long"},
    },
    "another baseline is asked": {
        "gains": ALL, "pretrainings": 8,
        "question": {"arm": "supervised", "baseline": "mfm"},
    },
    "nothing is asked": {"gains": ALL, "question": None},
    "not as declared": {
        "gains": TWO, "pretrainings": 4, "finished": 3,
        "declared": {"runs": 6, "pretrainings": 2},
    },
    "floors": {"gains": ALL, "pretrainings": 8, "frozen": frozen(**FROZEN)},
    "unlabelled images": {"gains": ALL, "dataset": {"unlabelled": "pool"}},
}  # fmt: skip


def render(gains, **more):
    return to_markdown(table.document(planted(gains, **more)))


def tables(text):
    """Rows of every table, as dicts, by the heading above; the main table's by ''."""
    found = {}
    parts = re.split(r"^(?:## |# )(.*)$", text, flags=re.M)[1:]
    for heading, part in zip(parts[::2], parts[1::2], strict=True):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        if not lines:
            continue
        cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
        head, rule, *body = cells
        assert set(rule) == {"---"}
        assert {len(row) for row in cells} == {len(head)}
        name = "" if not found else heading
        found[name] = [dict(zip(head, row, strict=True)) for row in body]
    return found


def measured(text):
    return {row["arm"]: row for row in tables(text)[""]}


def first(text):
    """The opening sentence."""
    return text.splitlines()[2]


def sentences(text):
    """Sentences outside of tables and headings."""
    for line in text.splitlines():
        if not line.startswith(("|", "#")):
            yield from re.split(r"(?<=[.?!])(?:\*\*)?\s+", line)


@pytest.mark.parametrize("case", CASES)
def test_the_table_is_read_in_ten_seconds(case):
    text = render(**CASES[case]).split("## Published")[0]
    assert re.fullmatch(r"\*\*[^*]+\*\*", first(text))
    assert text.splitlines()[0].endswith("?")
    assert len(tables(text)[""][0]) <= 8
    for sentence in sentences(text):
        found = re.findall(r"(?<![\w-])[+-]?\d[\d,]*(?:\.\d+)?", sentence)
        assert len(found) <= 3, sentence
    assert "-0.00" not in text


def test_the_arms_stand_in_the_configurations_order_with_their_numbers():
    found = measured(render(ALL, pretrainings=4))
    assert list(found) == ["scratch", "mfm", "scratch-long", "supervised (all 60,000 labels)"]
    gains = [np.mean([GAINS[k], GAINS[k + 4]]) for k in range(4)]
    means = [np.mean([SHARED[k], SHARED[k + 4]]) + gains[k] for k in range(4)]
    for values, cell in ((means, "top-1 in % (95% interval)"), (gains, "less scratch (95% int")):
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        [text] = [its for name, its in found["mfm"].items() if name.startswith(cell)]
        sign = "+" if cell.startswith("less") else ""
        shown = f"{np.mean(values):{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"
        assert text.replace("**", "") == shown
    mfm = found["mfm"]
    assert mfm["verdict"] == "suggestive (higher)"
    assert mfm["less scratch trained as long"].endswith(": not distinguishable")
    assert mfm["pretrainings x finetunings"] == "4 x 2"
    assert mfm["cost (times scratch)"] == "6.5"
    assert found["scratch"]["verdict"] == "baseline"
    assert found["scratch"]["pretrainings x finetunings"] == "none x 8"
    assert list(measured(render(TWO))["mfm"]) == [
        "arm",
        "top-1 in % (95% interval)",
        "less scratch (95% interval)",
        "verdict",
        "pretrainings x finetunings",
        "cost (times scratch)",
    ]
    assert (
        measured(render(TWO, pretrainings=3))["mfm"]["pretrainings x finetunings"] == "3 x 2 to 3"
    )
    more = {"weights": "ResNet18_Weights.IMAGENET1K_V1"}
    given = measured(render(TWO, arms={"mfm": more}))["mfm"]
    assert given["pretrainings x finetunings"] == "given x 8"
    assert given["cost (times scratch)"] == "1.0 + elsewhere"


def test_a_verdict_on_a_single_pretraining_says_so_wherever_it_is():
    text = render(ALL)
    assert first(text).startswith("**Given this one pretraining, mfm is better than scratch by ")
    line = "Every verdict on mfm and supervised is given this one pretraining: another may"
    assert line in text
    assert "this one" not in render(TWO, pretrainings=8)
    text = render(TWO, arms={"mfm": {"weights": "w.pth"}})
    assert first(text).startswith("**Given these weights, mfm is better")
    assert "Every verdict on mfm is given these weights: others may do better or worse." in text


def test_a_gain_that_longer_training_explains_is_told_in_the_first_sentence():
    text = render(ALL, pretrainings=8)
    assert "better than scratch by 1.00 points" in first(text)
    assert "but not shown to be worth its cost here" in first(text)
    assert "Equal cost was not compared" not in text
    assert "Equal cost was not compared" in render(TWO, pretrainings=8)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({}, "Declared on 26 November 2026, before any training. Analysed as declared."),
        (
            {"finished": 1},
            "**Declared on 26 November 2026, after 1 training run had finished: read it as "
            "exploratory.** Analysed as declared.",
        ),
        (
            {"declared": {"runs": 6}},
            "**Not analysed as declared. There are more runs of mfm: 8, declared were 6.**",
        ),
        (
            {"declared": {"runs": 10, "pretrainings": 4}},
            "There are fewer runs of mfm: 8, declared were 10. There are fewer pretrainings of "
            "mfm: 1, declared were 4.",
        ),
        (
            {"declared": {"baseline": "supervised"}},
            "**Not analysed as declared. The baseline is scratch, declared was supervised.**",
        ),
        ({"declarations": []}, "**The question was never declared"),
        ({"question": None}, "No question was declared"),
    ],
)
def test_what_was_declared_is_compared_with_what_was_analysed(case, said):
    assert said in render(TWO, **case)


def test_a_question_about_an_arm_without_runs_has_no_answer():
    done = planted(TWO)
    done = replace(done, results=done.results[done.results["arm"] != "mfm"])
    text = to_markdown(table.document(done))
    assert first(text) == "**No verdict on mfm and scratch: there are no runs of both.**"
    assert "There are fewer runs of mfm: 0, declared were 8." in text


def test_a_question_that_changed_says_after_how_many_runs():
    asks = {"arm": "mfm", "baseline": "scratch", "metric": "top1", "pretrainings": 1}
    declared = [
        Declaration(declared=f"2026-11-{day} 10:00", finished=runs, runs=count, **asks)
        for day, runs, count in ((25, 0, 6), (26, 12, 8))
    ]
    said = "**Changed and declared again on 26 November 2026, after 12 training runs had finished"
    assert said in render(TWO, declarations=declared)


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        (0, None),
        (1, "1 experiment has been evaluated on these images."),
        (3, "3 different experiments have been evaluated on these images: whoever takes the best"),
    ],
)
def test_looks_are_counted(looks, said):
    text = render(TWO, looks=looks)
    assert (said or "") in text
    assert ("been evaluated on these" in text) == bool(said)


def test_what_the_images_spoil_stands_beside_the_verdict():
    found = planted(TWO)
    facts = {
        "splits": found.summary["splits"] | {"val": {"images": 10000}},
        "overlap": {"val in train": 12, "val in pretrain": 0, "holdout in train": 3},
        "left_out": {
            "system file": {"number": 40, "examples": []},
            "other file": {"number": 2, "examples": []},
            "truncated": {"number": 1, "examples": []},
        },
    }
    said = to_markdown(table.document(replace(found, summary=found.summary | facts)))
    before_the_rows = said.split("\n| ")[0]
    assert "**12 of the 10,000 images of val are also in train, byte for byte.**" in before_the_rows
    assert "3 files were left out of the dataset (other file 2, truncated 1): `data/" in said
    assert "holdout" not in before_the_rows
    old = {key: each for key, each in found.summary.items() if key not in ("overlap", "left_out")}
    said = to_markdown(table.document(replace(found, summary=old)))
    assert "linked by an earlier version" in said
    assert "left out" not in to_markdown(table.document(found)).split("\n| ")[0]


def test_too_few_for_a_clear_verdict_is_said():
    assert "3 seeds are too few for a clear verdict" in render(**CASES["three seeds"])
    assert "4 pretrainings are too few for a clear verdict" in render(TWO, pretrainings=4)
    assert "too few" not in render(TWO, pretrainings=8)
    # Three pretrainings and two seeds do not divide each other: no pairs.
    pretrain = {
        "masked": {"task": "mfm", "seeds": [0, 1, 2]},
        "labels": {"task": "supervised", "seeds": [0, 1]},
    }
    question = {"arm": "mfm", "baseline": "supervised"}
    gains = {"supervised": ZERO, "mfm": GAINS}
    text = render(gains, pretrain=pretrain, question=question, baseline="supervised")
    assert (
        "2 pretrainings are too few for a clear verdict, whatever they show: it takes 4 of" in text
    )
    assert "Welch's interval, since seeds or pretrainings do not pair: mfm less supervised." in text


def test_floors_are_rows_and_who_is_below_is_flagged():
    text = render(ALL, pretrainings=8, frozen=frozen(**FROZEN))
    found = measured(text)
    assert list(found)[-2:] == [
        "floor: logistic regression on pixels",
        "floor: logistic regression on features of random weights",
    ]
    floor = found["floor: logistic regression on pixels"]
    values = np.add(SHARED, 80.5 - SHARED[0])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    shown = f"**{values.mean():.2f}** ({low:.2f} to {high:.2f})"
    assert floor["top-1 in % (95% interval)"] == shown
    assert floor["verdict"] == floor["cost (times scratch)"] == "-"
    assert "scratch, **below a floor**" in found
    assert "mfm" in found
    said = "**Below a floor: scratch stays below logistic regression on pixels. Such an arm "
    assert said in text
    assert "elow a floor" not in render(ALL, frozen=frozen(pixels=70.0, random=60.0))
    low = render(ALL, frozen=frozen(pixels=83.0, random=80.8))
    assert "mfm and scratch-long stay below logistic regression on pixels" in low
    assert "scratch stays below logistic regression on pixels and features of random weights" in low
    assert "floor" not in render(ALL)
    # With all labels, every seed reads the same images.
    same = frozen(**FROZEN)
    same.loc[same["features"] == "pixels", "top1"] = 80.5
    row = measured(render(ALL, frozen=same))["floor: logistic regression on pixels"]
    assert row["top-1 in % (95% interval)"] == "**80.50** (the same in every run)"


def test_a_difference_over_fewer_seeds_is_told_apart_from_that_of_two_means():
    alike = "A difference is paired over the arms' common seeds"
    assert f"- {alike}.\n" in render(TWO)
    more = f"- {alike}: where one arm has more seeds, it is not that of the two means.\n"
    assert more in render(ALL)  # of the supervised arm's three


def test_what_pretraining_learned_is_less_random_weights_and_without_verdicts():
    text = render(ALL, pretrainings=8, frozen=frozen(**FROZEN))
    rows = {row["frozen features of"]: row for row in tables(text)["What pretraining learned"]}
    assert list(rows) == ["none: raw pixels", "random weights", "mfm", "supervised"]
    assert list(rows["mfm"].values())[2] == "+8.00"
    assert list(rows["random weights"].values())[1:3] == ["see above", "-"]
    assert rows["mfm"]["less raw pixels"][0] in "+-"
    assert "What pretraining learned" not in render(ALL)


def test_an_arm_that_finetuning_makes_worse_is_named():
    told = "Better before finetuning: logistic regression on the frozen features of supervised is"
    assert told in render(ALL, frozen=frozen(pixels=60.0, random=50.0, supervised=99.0))
    kept = render(ALL, frozen=frozen(pixels=60.0, random=50.0, supervised=51.0))
    assert "Better before finetuning" not in kept


def test_each_number_of_a_comparison_stands_once():
    text = render(ALL, pretrainings=8)
    rows = tables(text)["Comparisons in numbers"]
    assert [row["comparison"] for row in rows] == [
        "mfm less scratch, declared",
        "scratch-long less scratch",
        "supervised less scratch",
        "mfm less scratch-long",
    ]
    assert [row["rests on"] for row in rows] == [
        "8 pretrainings in pairs",
        "8 seeds in pairs",
        "3 seeds in pairs",
        "8 pretrainings in pairs",
    ]
    assert rows[0]["p (exact)"] == f"{2 / 2**8:.2g}"
    assert rows[0]["after Holm"] == "-"
    assert rows[1]["exact, after Holm"] == f"{3 * 2 / 2**8:.2g}"


def test_verdicts_are_these_words():
    arms = ("lower", "higher", "maybe", "same")
    gains = {"scratch": ZERO, "lower": np.multiply(GAINS, -1), "higher": GAINS, "same": NOISE}
    gains["maybe"] = GAINS[:4]
    given = {"arms": {name: {"weights": "w.pth"} for name in arms}, "question": None}
    found = measured(render(gains, **given))
    assert [row["verdict"] for row in found.values()] == [
        "baseline",
        "worse",
        "better",
        "not distinguishable",
        "suggestive (higher)",
    ]
    assert measured(render({"scratch": (0,), "mfm": (1,)}))["mfm"]["verdict"] == "no verdict"


def test_another_baseline_is_compared_with():
    found = measured(render(TWO, baseline="mfm", pretrainings=8))
    assert found["mfm"]["verdict"] == "baseline"
    assert found["scratch"]["verdict"] == "worse"
    assert found["scratch"]["less mfm (95% interval)"].startswith("-1.00 (-1.10 to ")


def test_the_setting_is_told():
    text = render(ALL)
    assert text.startswith("# resnet18 on fashion-mnist: is mfm better than scratch?\n\n**")
    for fact in (
        "finetuned on 250 labelled images",
        "for 30 epochs",
        "10,000 images of split 'val'. scratch-long is trained as long as mfm",
        "over 10 classes",
        "Code version 1.0+a.",
        "Warning",
    ):
        assert (fact in text) == (fact != "Warning")
    held = render(TWO, dataset={"holdout_per_class": 5}, evaluate={"split": "holdout"})
    assert "'holdout'" in held


def test_own_best_settings_are_told():
    tuning = {"grid": {"epochs": [30, 60]}, "seeds": [50], "use": "own"}
    text = render(TWO, tuning=tuning, dataset={"holdout_per_class": 5})
    assert "with the settings that were best for it on images set aside (tuning.md)" in text


def test_the_supervised_arm_is_told_for_what_it_is():
    line = next(line for line in render(ALL).splitlines() if line.startswith("- 'labels'"))
    for fact in (
        "all labelled training images",
        "4 epochs, as many as 'masked'",
        "not torchvision",
    ):
        assert fact in line


def test_unlabelled_images_are_named_for_the_pretraining_that_uses_them():
    assert "unlabelled" not in render(ALL)
    text = render(**CASES["unlabelled images"])
    assert "'masked' is pretrained on the unlabelled images of pool" in text
    assert "'labels' is pretrained on the unlabelled" not in text


def test_links_are_relative_and_lead_to_files(tmp_path):
    found = planted(ALL, pretrainings=2, results=str(tmp_path / "results"))
    layout, text = found.layout, to_markdown(table.document(found))
    runs = [layout.pretraining("masked", seed) for seed in (0, 1)]
    runs.append(layout.pretraining("labels", 0))
    paths = [*found.results["checkpoint"], *(run.weights for run in runs)]
    for name in (*paths, layout.file("plan.md")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    links = re.findall(r"\]\(([^)]+)\)", text.split("## Published")[0])
    assert len(links) == len(paths) + 1
    assert all((tmp_path / "results" / link).is_file() for link in links)
    relative = to_markdown(table.document(planted(TWO, results="results/own/")))
    assert "(finetune/mfm/seed0/model.safetensors)" in relative


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
    arms = {"mfm": {"weights": "w.pth", "classifier": asked}}
    done = planted({"scratch": (0,), "mfm": (1,)}, arms=arms, results=str(tmp_path))
    for checkpoint in done.results["checkpoint"]:
        said = {"initial_sha256": "ab" * 32, "classifier": found}
        save_weights(nn.Linear(1, 1), Path(checkpoint), said)
    text = to_markdown(table.document(done))
    [line] = [line for line in text.splitlines() if "starts from w" in line]
    assert line.startswith(f"- 'mfm' starts from w.pth (SHA-256 {'ab' * 32}); ")
    assert words in line


def test_what_given_weights_were_trained_on_stands_in_the_table(tmp_path):
    arms = {"mfm": {"weights": "timm/resnet50.a1_in1k"}}
    done = planted({"scratch": (0,), "mfm": (1,)}, arms=arms, results=str(tmp_path))
    known = {"trained_on": "ImageNet-1k labels", "revision": "0" * 40, "image_size": "224"}
    for checkpoint, arm in done.results[["checkpoint", "arm"]].itertuples(index=False):
        said = {"initial_sha256": "ab" * 32, "classifier": "new"}
        said |= {f"initial_{key}": value for key, value in known.items()}
        save_weights(nn.Linear(1, 1), Path(checkpoint), said if arm == "mfm" else {"seed": "0"})
    text = to_markdown(table.document(done))
    assert "| mfm (ImageNet-1k labels) |" in text
    assert "| scratch |" in text
    assert f", revision {'0' * 40}; trained on ImageNet-1k labels, at 224 px); its" in text


def test_what_differs_is_told_right_after_the_table(tmp_path):
    done = planted(TWO, results=str(tmp_path))
    done.results.loc[done.results["arm"] == "mfm", "code_version"] = "1.1+b"
    text = to_markdown(table.document(done))
    between = text.split("| mfm |")[1].split("\n## ")[0]
    assert "**Warning: these runs differ in more than what they start from.**" in between
    assert "| `code_version` | 1.0+a | finetuning of scratch |" in between
    assert "| `code_version` | 1.1+b | finetuning of mfm |" in between
    assert "Code version" not in text


def test_a_column_is_one_entry(tmp_path, monkeypatch):
    more = Column("slowest", lambda arm: f"{arm.rows['seconds'].max():.0f}", unit="s")
    monkeypatch.setattr(columns, "COLUMNS", [*columns.COLUMNS, more])
    done = planted(TWO, frozen=frozen(pixels=70.0))
    rows = table.measured(done, table.compare(done))
    assert "<th>slowest (s)</th>" in to_html([rows], folder=tmp_path, level=2)
    head, *lines = csv.reader(to_csv(rows).splitlines())
    assert (head[0], head[-1]) == ("arm", "slowest (s)")
    assert [line[-1] for line in lines] == ["20", "20", "-"]


def test_the_manual_has_each_column_and_verdict():
    text = (ROOT / "docs/reading-the-table.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|", text, re.M)
    for column in table.columns(planted(ALL)):
        assert column.name.split(" (")[0] in rows, column.name
    words = [word for row in rows for word in re.split(r", (?!not)", row)]
    for word in answer._WORDS:
        assert word in words


# The cost


def costs(**more):
    done = planted(ALL, pretrainings=2, **more)
    block, notes = cost.section(done).blocks
    heads = [column.head for column in block.columns]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in block.cells()}, notes.items


def test_pretraining_is_part_of_an_arms_cost():
    found, _ = costs()
    assert found["mfm"] == {
        "arm": "mfm",
        "pretraining epochs": "4",
        "pretraining images": "240,000",
        "pretraining time (min)": "1.8",
        "finetuning epochs": "30",
        "finetuning images": "7,500",
        "finetuning time (min)": "0.33",
        "images/s": "901",
        "time of all runs (min)": "6.3",  # 2 pretrainings and 8 finetunings
    }
    assert found["scratch"]["pretraining time (min)"] == "-"
    assert found["scratch-long"]["finetuning time (min)"] == "2.2"


def test_a_pretraining_that_went_on_from_a_file_is_not_counted_whole():
    labels = {"task": "supervised", "epochs": 4, "batch": 100}
    masked = {"task": "mfm", "epochs": 4, "batch": 100, "weights": "x.pth", "seeds": [0, 1]}
    pretrain = {"masked": masked, "labels": labels}
    found, lines = costs(pretrain=pretrain)
    assert found["mfm"]["pretraining epochs"] == "4 + elsewhere"
    assert found["supervised"]["pretraining epochs"] == "4"
    assert any("not counted" in line for line in lines)
    given = measured(render(TWO, pretrain=pretrain))["mfm"]
    assert given["cost (times scratch)"].endswith(" + elsewhere")


def test_given_weights_are_told_as_not_counted():
    found, lines = costs(arms={"supervised": {"weights": "x.pth"}})
    assert found["supervised"]["pretraining epochs"] == "elsewhere"
    assert any("not counted" in line for line in lines)
    assert any("'scratch-long' starts from scratch" in line and "'mfm'" in line for line in lines)


# What others published


def test_published_rows_of_another_dataset_are_below_and_not_comparable():
    headings = list(tables(render(ALL)))
    assert headings[:4] == ["", "Comparisons in numbers", "Cost", "Runs"]
    assert len(headings) == 6
    for heading, publisher in zip(headings[4:], ("by upstream", "in the paper"), strict=True):
        assert heading.startswith(f"Published {publisher}")
        assert "not comparable" in heading
        assert "resnet18 on fashion-mnist" in heading


@pytest.mark.parametrize(
    ("name", "backbone"), [("imagenet-1k", "resnet18"), ("fashion-mnist", "resnet50")]
)
def test_one_thing_in_common_is_not_comparable(name, backbone):
    text = render(TWO, dataset={"name": name}, model={"backbone": backbone})
    assert "same dataset and backbone" not in text
    assert text.count("not comparable with") == 2


def test_published_rows_of_the_same_dataset_and_backbone_are_marked_so():
    found = tables(render(TWO, dataset={"name": "imagenet-1k"}, model={"backbone": "resnet50"}))
    same = {name: rows for name, rows in found.items() if "same dataset and backbone" in name}
    other = {name: rows for name, rows in found.items() if "not comparable" in name}
    assert list(found)[4:] == [*same, *other]
    assert [len(rows) for rows in same.values()] == [6, 6]
    assert {row["backbone"] for rows in same.values() for row in rows} == {"resnet50"}
    assert {row["backbone"] for rows in other.values() for row in rows} == {"vit_base_patch16_224"}


def test_every_published_figure_is_in_the_table_as_it_was_published():
    shown = [
        row for heading, rows in tables(render(TWO)).items() if "Pub" in heading for row in rows
    ]
    assert sorted(row["top-1 (%)"] for row in shown) == sorted(FIGURES.values())
    assert all(row["source"].startswith("https://") for row in shown)
    assert {row["epochs"] for row in shown} == {"100", "300 + 100", "300 + 300"}


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


def test_no_cell_breaks_its_table():
    for row in published():
        assert not [cell for cell in row.values() if "|" in cell or "\n" in cell]


# results.csv


def test_rows_of_evaluations_are_collected_with_their_columns(tmp_path):
    _, rows = finished.plant(ALL, pretrainings=2)
    rows = rows.assign(top5=99.0, loss=0.5, config_hash=[f"{n:012d}" for n in range(len(rows))])
    rows = rows[list(COLUMNS)]
    paths = []
    for number, row in enumerate(rows.to_dict("records")):
        paths.append(tmp_path / f"{row['arm']}/seed{row['seed']}.csv")
        paths[-1].parent.mkdir(exist_ok=True)
        rows[number : number + 1].to_csv(paths[-1], index=False)
    collected = collect_rows(paths)
    assert tuple(collected.columns) == COLUMNS
    # a hash of digits alone keeps its zeros
    assert collected.to_dict("records") == rows.to_dict("records")
