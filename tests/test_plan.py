import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from mfm.commands import plan as command
from mfm.errors import UserError
from mfm.experiment.layout import Layout
from mfm.experiment.settings import Experiment
from mfm.reporting import plan
from mfm.reporting.render_markdown import to_markdown
from mfm.reporting.verdict import compare
from mfm.settings.section import dumps_ordered, parse
from mfm.statistics.planned import judge
from mfm.statistics.power import components, smallest_difference, units_needed

QUESTION = {"arm": "mfm", "baseline": "scratch", "difference": 0.5, "deviation": 0.75}


def experiment(*, seeds=12, pretrainings=4, **more):
    values = {
        "seeds": list(range(seeds)),
        "pretrain": {
            "masked": {
                "task": "mfm", "epochs": 2, "batch": 100, "seeds": list(range(pretrainings)),
            }
        },
        "arms": {
            "scratch": "scratch",
            "mfm": {"pretrain": "masked"},
            "long": {"as_long_as": "mfm"},
        },
        "finetune": {"epochs": 30, "batch": 50, "images_per_class": 20},
    }  # fmt: skip
    return parse(Experiment, values | more, where="test")


def rows(*, seeds=12, pretrainings=4, folder="results", arms=("scratch", "mfm", "long")):
    generator = np.random.default_rng(0)
    shared, own = generator.normal(80, 1, seeds), generator.normal(0, 1, pretrainings)
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "pretraining_seed": str(seed % pretrainings) if arm == "mfm" else "-",
                "top1": shared[seed]
                + (0.8 + own[seed % pretrainings]) * (arm == "mfm")
                + generator.normal(0, 0.4),
                "epochs": 30,
                "train_images": 120,
                "seconds": 3600.0,
                "checkpoint": f"{folder}/finetune/{arm}/seed{seed}/model.safetensors",
            }
            for arm in arms
            for seed in range(seeds)
        ]
    )


def planned(shape, arm="mfm", other="scratch", pretraining=None, **more):
    found = compare(experiment(**shape, **more), rows(**shape))
    [one] = [each for each in found if (each.arm, each.other) == (arm, other)]
    seconds = plan.Seconds(
        finetuning={"scratch": 60.0, "mfm": 100.0, "long": 200.0}, pretraining=pretraining or {}
    )
    return plan.Planned(experiment=experiment(**shape, **more), found=one, seconds=seconds)


def designs(one):
    return {each.name: each for each in one.designs()}


def gaps(shape):
    table = rows(**shape).pivot(index="seed", columns="arm", values="top1")
    return (table["mfm"] - table["scratch"]).to_numpy()


def test_more_finetunings_reduce_the_spread_within_pretrainings_alone():
    shape = {"seeds": 12, "pretrainings": 4}
    one = planned(shape, question=QUESTION)
    parts = components([gaps(shape)[k::4].tolist() for k in range(4)])
    assert parts.between > 0
    found = designs(one)
    assert [(each.size, each.units) for each in found.values()][:3] == [
        ("4 x 3", 4), ("4 x 6", 4), ("8 x 2", 8),
    ]  # fmt: skip
    for name, units, runs in (
        ("now", 4, 3), ("twice the finetunings", 4, 6), ("more pretrainings", 8, 2),
    ):  # fmt: skip
        expected = smallest_difference(units, (parts.between + parts.within / runs) ** 0.5)
        assert found[name].finds == pytest.approx(expected)
    assert found["twice the finetunings"].finds > found["more pretrainings"].finds
    needed = units_needed(0.5, parts.deviation(3))
    target = found["to find 0.5"]
    assert (target.pretrainings, target.finetunings) == (needed, 3 * needed)


def test_the_cost_counts_pretrainings_and_runs_that_start_from_another():
    one = planned({"seeds": 12, "pretrainings": 4}, pretraining={"mfm": 1000.0})
    found = designs(one)
    assert one.more(found["now"]) == {"mfm": (0, 0), "scratch": (0, 0)}
    assert one.more(found["twice the finetunings"]) == {"mfm": (0, 12), "scratch": (0, 12)}
    # Of seeds 0 to 11, 4 to 7 start from pretrainings 4 to 7 of 8, and no longer from 0 to 3.
    assert found["more pretrainings"].finetunings == 16
    assert one.more(found["more pretrainings"]) == {"mfm": (4, 8), "scratch": (0, 4)}
    assert one.cost(found["more pretrainings"]) == 4 * 1000 + 8 * 100 + 4 * 60
    unknown = planned({"seeds": 12, "pretrainings": 4})
    assert unknown.cost(found["more pretrainings"]) is None
    assert unknown.cost(found["twice the finetunings"]) == 12 * 100 + 12 * 60


def test_a_single_pretraining_says_that_no_other_was_sampled_and_what_six_cost():
    shape = {"seeds": 6, "pretrainings": 1}
    one = planned(shape, pretraining={"mfm": 1000.0}, question=QUESTION)
    found = designs(one)
    deviation = gaps(shape).std(ddof=1)
    assert found["now"].finds == pytest.approx(smallest_difference(6, deviation))
    assert found["twice the finetunings"].finds == pytest.approx(smallest_difference(12, deviation))
    more = found["more pretrainings"]
    assert (more.size, more.finds) == ("6 x 1", None)
    assert one.cost(more) == 5 * 1000 + 5 * 100  # seed 0 stays
    text = to_markdown(plan.document(experiment(**shape, question=QUESTION), rows(**shape)))
    assert "Other pretrainings were not sampled" in text
    assert "| more pretrainings | 6 x 1 | not known | better, worse |" in text


def test_runs_of_one_finetuning_each_do_not_tell_what_more_would_bring():
    found = designs(planned({"seeds": 8, "pretrainings": 8}))
    assert found["now"].finds is not None
    assert found["twice the finetunings"].finds is None
    assert found["more pretrainings"].finds is not None


def test_arms_from_scratch_are_planned_in_seed_pairs():
    found = designs(planned({"seeds": 8, "pretrainings": 4}, arm="long"))
    assert "more pretrainings" not in found
    assert found["twice the finetunings"].size == "16 pairs"


def test_what_takes_more_than_a_thousand_is_not_counted():
    tiny = QUESTION | {"difference": 0.01}
    one = planned({"seeds": 12, "pretrainings": 4}, question=tiny)
    target = designs(one)["to find 0.01"]
    assert (target.finetunings, target.size) == (None, "more than 1,000 pretrainings")
    text = to_markdown(plan.document(experiment(question=tiny), rows()))
    assert (
        "| to find 0.01 | more than 1,000 pretrainings | not known | better, worse | - | - |"
        in text
    )


def test_times_are_of_finetuning_and_evaluation_and_of_a_pretraining(tmp_path):
    for seed, seconds in ((0, 10), (1, 20)):
        path = tmp_path / f"benchmarks/evaluate/mfm/seed{seed}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:10\n")
    finished = rows(seeds=2, folder=tmp_path)
    assert plan.run_seconds(finished) == {"scratch": 3600, "mfm": 3615, "long": 3600}
    here = experiment(results=str(tmp_path))
    assert plan.pretraining_seconds(here) == {}
    for seed, seconds in ((0, 50), (1, 70)):
        path = tmp_path / f"pretrain/masked/seed{seed}/metrics.csv"
        path.parent.mkdir(parents=True)
        path.write_text(f"epoch,seconds\n0,{seconds}\n1,{seconds}\n")
    assert plan.pretraining_seconds(here) == {"mfm": 120}


def test_a_plan_begins_with_the_question_and_has_short_sentences():
    text = to_markdown(plan.document(experiment(question=QUESTION), rows()))
    heads = re.findall(r"^## (.*)", text, re.M)
    assert heads == ["mfm less scratch (the question)", "long less scratch", "mfm less long"]
    assert text.count("| now |") == 3
    prose = [line for line in text.splitlines() if line and line[0] not in "|#"]
    for sentence in re.split(r"\. |\.$|\n", "\n".join(prose)):
        assert len(re.findall(r"\d+(?:[.,]\d+)*", sentence)) <= 3, sentence


def test_a_plan_before_any_run_states_what_it_assumes():
    text = to_markdown(plan.document(experiment(question=QUESTION), rows()[:0]))
    assert "No spread is known yet of mfm less scratch, long less scratch, mfm less long" in text
    assert "Cost: not known" in text
    assert "The question: 12 runs from 4 pretrainings find" in text
    for deviation, source in plan.ASSUMED:
        counts = [str(units_needed(points, deviation)) for points in plan.POINTS]
        now = f"{smallest_difference(12, deviation):.2f}"
        assert f"| {deviation:g} | {source} | {' | '.join(counts)} | {now} |" in text


def test_a_plan_from_some_runs_has_both_parts():
    text = to_markdown(plan.document(experiment(), rows(arms=("scratch", "mfm"))))
    assert "## mfm less scratch\n" in text
    assert "No spread is known yet of long less scratch, mfm less long" in text
    assert "scratch 1 h" in text


# Before anything runs


def test_the_published_recipe_is_judged_before_it_runs():
    said = judge(runs=3, pretrainings=1, difference=0.28, deviation=0.127)
    least = smallest_difference(3, 0.127)
    assert said == (
        f"3 runs from 1 pretraining find {least:.2f} points with 80% (sd 0.127 a pair); the "
        "question is about 0.28; with fewer than 6 pairs the answer is at most 'suggestive'"
    )
    assert least == pytest.approx(0.41, abs=0.005)


@pytest.mark.parametrize(
    ("runs", "before", "more", "expected"),
    [
        (12, 4, {"deviation": 0.8}, "0.98 to 1.70 points with 80%, by how much pretrainings"),
        (12, 4, {"deviation": 0.8}, "fewer than 6 pretrainings the answer is at most 'sugg"),
        (8, 8, {"deviation": 0.5}, "8 runs from 8 pretrainings find 0.60 points with 80%"),
        (12, 0, {}, "12 runs: what they can find is known with question.deviation"),
        (5, 0, {}, "5 runs: with fewer than 6 pairs the answer is at most 'suggestive'"),
        (1, 1, {"deviation": 0.8}, "1 run from 1 pretraining can give no interval"),
        (1, 4, {}, "no verdict"),
    ],
)
def test_a_planned_number_of_runs_is_judged(runs, before, more, expected):
    shape = {"difference": None, "deviation": None} | more
    assert expected in judge(runs=runs, pretrainings=before, **shape)


# The command


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Two configuration files in an empty folder; the second is laid over the first."""
    monkeypatch.chdir(tmp_path)
    values = json.loads(dumps_ordered(experiment()))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    (tmp_path / "more.yaml").write_text("finetune: {epochs: 7}\narms: {other: scratch}\n")
    return tmp_path


def document(*words):
    return to_markdown(plan.document(*words))


def test_the_command_plans_before_any_run(configured, capsys):
    command.main([])
    assert capsys.readouterr().out == document(experiment(), rows()[:0])
    assert {path.name for path in configured.iterdir()} == {"config.yaml", "more.yaml"}


def test_the_command_reads_the_rows_that_there_are(configured, capsys):
    finished = rows(arms=("scratch", "mfm"))
    for row in finished.to_dict("records"):
        path = configured / Layout("results").evaluation(row["arm"], row["seed"]).row
        path.parent.mkdir(parents=True, exist_ok=True)
        finished[finished["checkpoint"] == row["checkpoint"]].to_csv(path, index=False)
    command.main(["--configfile", "config.yaml"])
    assert capsys.readouterr().out == document(experiment(), finished)


def test_later_configuration_files_are_laid_over_earlier_ones(configured, capsys):
    command.main(["--configfile", "config.yaml", "more.yaml"])
    assert "other less scratch" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"there is no file gone\.yaml"):
        command.main(["--configfile", "config.yaml", "gone.yaml"])
