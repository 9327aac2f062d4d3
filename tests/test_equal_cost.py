import json
import sys

import pytest

from mfm.errors import UserError
from mfm.experiment import equal_cost, resolve
from mfm.experiment.jobs import FinetuneJob, LongerRun
from mfm.experiment.settings import Experiment
from mfm.settings.section import differing_keys, dumps, load_json, parse

SUMMARY = {
    "splits": {
        "train": {"images": 1010, "per_class": {"a": 500, "b": 510}},
        "pretrain": {"images": 3000},
    }
}


def experiment(arm=None, **more):
    values = {
        "seeds": [0, 1],
        "pretrain": {
            "masked": {"task": "mfm", "epochs": 3, "batch": 100},
            "labels": {"task": "supervised", "epochs": 2, "batch": 100},
        },
        "arms": {
            "scratch": "scratch",
            "mfm": {"pretrain": "masked"},
            "supervised": {"pretrain": "labels"},
            "given": {"weights": "x.pth"},
            "scratch-long": {"as_long_as": "mfm"} if arm is None else arm,
        },
        "finetune": {"epochs": 10, "batch": 10, "images_per_class": 20},
    }
    return parse(Experiment, values | more, where="test")


def epochs(ours, **wildcards):
    found = resolve.resolve_longer(ours, init="scratch-long", seed="0", **wildcards)
    # What Snakemake hands over
    found = parse(LongerRun, json.loads(dumps(found)), where="test")
    return equal_cost.lengthened(found, SUMMARY).training.epochs


def test_scratch_sees_as_many_images_as_both_stages():
    # 3 epochs of 10 full batches of 100, and 40 images an epoch here
    assert epochs(experiment()) == 10 + 3 * 1000 / 40


def test_an_incomplete_batch_is_no_step():
    finetune = {"epochs": 10, "batch": 30, "images_per_class": 20}
    assert epochs(experiment(finetune=finetune)) == 10 + 3 * 1000 / 30


def test_unlabelled_images_count_where_they_are_pretrained_on():
    dataset = {"unlabelled": "somewhere"}
    assert epochs(experiment(dataset=dataset)) == 10 + 3 * 3000 / 40
    ours = experiment({"as_long_as": "supervised"}, dataset=dataset)
    assert epochs(ours) == 10 + 2 * 1000 / 40


def test_large_images_count_by_their_pixels():
    finetune = {"epochs": 10, "batch": 10, "images_per_class": 20, "crop": {"size": 64}}
    assert epochs(experiment(finetune=finetune)) == 10 + round(3 * 1000 / 40 / 4)


def test_upstreams_recipe_on_all_labels_is_its_epochs_by_pixels():
    finetune = {"epochs": 100, "batch": 10, "crop": {"size": 160}}
    pretrain = {"m": {"task": "mfm", "epochs": 300, "batch": 10, "crop": {"size": 224}}}
    arms = {"scratch": "scratch", "mfm": {"pretrain": "m"}, "scratch-long": {"as_long_as": "mfm"}}
    ours = experiment(finetune=finetune, pretrain=pretrain, arms=arms)
    assert epochs(ours) == 100 + 300 * 1.96


def test_other_amounts_of_labels_have_their_own_number():
    ours = experiment(label_efficiency=[{"images_per_class": 5, "epochs": 4}])
    labels = "label_efficiency/5-per-class/"
    assert epochs(ours, labels=labels) == 4 + 3 * 1000 / 10


def test_nothing_but_the_epochs_is_another_than_scratchs():
    ours = experiment()
    run = resolve.resolve_longer(ours, init="scratch-long", seed="1")
    found = json.loads(dumps(equal_cost.lengthened(run, SUMMARY)))
    scratch = json.loads(dumps(resolve.resolve(ours, "finetune", init="scratch", seed="1")))
    assert differing_keys(found, scratch) == ["init", "training.epochs"]
    assert found["source"] == "scratch"
    assert resolve.weights_argument(ours, "scratch-long") == "scratch"
    assert resolve.initial_files(ours, "scratch-long") == []


def test_another_rate_of_the_pretraining_does_not_train_it_again():
    pretrain = {"masked": {"task": "mfm", "epochs": 3, "batch": 100, "optimizer": {"lr": 0.1}}}
    arms = {"scratch": "scratch", "mfm": {"pretrain": "masked"}}
    arms["scratch-long"] = {"as_long_as": "mfm"}
    found = [
        resolve.resolve_longer(ours, init="scratch-long", seed="0")
        for ours in (experiment(), experiment(pretrain=pretrain, arms=arms))
    ]
    assert found[0] == found[1]


def test_it_may_have_seeds_of_its_own():
    ours = experiment({"as_long_as": "mfm", "seeds": [1]})
    assert ("scratch-long", 1) in resolve.finetunings(ours)
    assert ("scratch-long", 0) not in resolve.finetunings(ours)
    assert ("scratch", 0) in resolve.finetunings(ours)


@pytest.mark.parametrize("other", ["scratch", "given", "scratch-long", "mmf"])
def test_only_an_arm_with_a_pretraining_has_a_time_to_make_up_for(other):
    with pytest.raises(UserError, match=r"arms\.scratch-long\.as_long_as: '"):
        experiment({"as_long_as": other})


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"as_long_as": "mfm", "pretrain": "masked"}, "scratch-long.pretrain"),
        ({"as_long_as": "mfm", "seed": [0]}, r"scratch-long.seed'.*did you mean 'seeds'"),
        ({"as_long_as": "mfm", "seeds": [7]}, "not among seeds"),
    ],
)
def test_a_wrong_key_is_told(arm, message):
    with pytest.raises(UserError, match=message):
        experiment(arm)


def test_the_command_writes_the_runs_configuration(tmp_path, monkeypatch, capsys):
    run = resolve.resolve_longer(experiment(), init="scratch-long", seed="0")
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    words = ["--run", dumps(run), "--summary", str(tmp_path / "summary.json")]
    monkeypatch.setattr(sys, "argv", ["longer", *words, "--config", str(tmp_path / "config.json")])
    equal_cost.main()
    found = load_json(FinetuneJob, tmp_path / "config.json")
    assert found == equal_cost.lengthened(run, SUMMARY)
    assert "85 epochs" in capsys.readouterr().out
