"""The declared comparison: what can be asked, and what is written down of it."""

import json
from datetime import datetime

import pytest

from mfm.commands import declare as command
from mfm.errors import UserError
from mfm.experiment.layout import Layout
from mfm.experiment.question import Declaration, declare, read
from mfm.experiment.resolve import asked
from mfm.experiment.settings import Experiment
from mfm.settings.section import parse

ASKED = {"arm": "mfm", "baseline": "scratch", "metric": "top1", "runs": 8, "pretrainings": 4}


def experiment(**question):
    values = {
        "seeds": [0, 1, 2, 3],
        "pretrain": {"p": {"task": "mfm", "seeds": [5, 6, 7]}},
        "arms": {
            "scratch": "scratch",
            "mfm": {"pretrain": "p"},
            "few": {"pretrain": "p", "seeds": [0, 3]},
            "given": {"weights": "x.pth"},
        },
        "question": question,
    }
    return parse(Experiment, values, where="test")


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ({"arm": "mfn"}, "question.arm 'mfn' is not below 'arms:' (did you mean 'mfm'?)"),
        ({"baseline": "scrach"}, "question.baseline 'scrach' is not below 'arms:' (did you mean"),
        ({"baseline": "mfm"}, "question: an arm is compared with another one"),
        (
            {"metric": "top5"},
            "question.metric: give one of top1, top_k, balanced_accuracy, macro_f1",
        ),
        ({"runs": 0}, "question.runs: should be greater than or equal to 1"),
        ({"difference": 0}, "question.difference: should be greater than 0"),
        ({"deviation": -1}, "question.deviation: should be greater than 0"),
        ({"run": 3}, "unknown key 'question.run' (did you mean 'runs'?)"),
    ],
)
def test_a_wrong_question_is_told_in_one_line(question, told):
    with pytest.raises(UserError) as caught:
        experiment(**{"arm": "mfm", "baseline": "scratch"} | question)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arm", "runs", "pretrainings"),
    [("mfm", 4, 3), ("few", 2, 1), ("given", 4, 0), ("scratch", 4, 0)],
)
def test_what_is_asked_is_counted_from_the_settings(arm, runs, pretrainings):
    baseline = "scratch" if arm != "scratch" else "mfm"
    found = asked(experiment(arm=arm, baseline=baseline))
    expected = {"arm": arm, "baseline": baseline, "metric": "top1"}
    assert found == expected | {"runs": runs, "pretrainings": pretrainings}
    assert asked(experiment(arm=arm, baseline=baseline, runs=9))["runs"] == 9


def test_a_question_is_declared_once_and_each_change_adds_a_line(tmp_path):
    path = tmp_path / "new/question.csv"
    assert read(path) == []
    first = Declaration(**ASKED, declared="2026-11-26 18:00", finished=0)
    again = Declaration(**ASKED, declared="2026-11-27 09:00", finished=3)
    changed = Declaration(**ASKED | {"baseline": "long"}, declared="2026-11-28 09:00", finished=3)
    back = Declaration(**ASKED, declared="2026-11-29 09:00", finished=12)
    for each in (first, again, changed, again, back):
        declare(path, each)
    # The first "again" asks what stands there; the second goes back, as `back` would.
    assert read(path) == [first, changed, again]
    assert path.read_text().splitlines()[1] == "2026-11-26 18:00,mfm,scratch,top1,8,4,0"


@pytest.mark.parametrize("key", ASKED)
def test_each_part_of_a_question_makes_another_one(key, tmp_path):
    path = tmp_path / "question.csv"
    other = {key: "other" if isinstance(ASKED[key], str) else ASKED[key] + 1}
    for asks in (ASKED, ASKED | other):
        declare(path, Declaration(**asks, declared="2026-11-26 18:00", finished=0))
    assert len(read(path)) == 2


def test_the_command_counts_the_trainings_that_have_finished(tmp_path):
    layout = Layout(str(tmp_path))
    for arm, files in (("a", ["config"]), ("b", ["config", "weights"])):  # begun, finished
        run = layout.finetuning(arm, 0, folder="variants/s/v/")
        for file in files:
            path = tmp_path / getattr(run, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    command.main([layout.question, json.dumps(ASKED)])
    [found] = read(tmp_path / "question.csv")
    assert (found.finished, found.runs, found.pretrainings) == (1, 8, 4)
    assert datetime.strptime(found.declared, "%Y-%m-%d %H:%M").year >= 2026
