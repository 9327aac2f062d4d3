import json

import pytest
from PIL import Image

from mfm.data.linking import manifest
from mfm.errors import UserError
from mfm.experiment import resolve
from mfm.experiment.equal_cost import MadeUpFor
from mfm.experiment.jobs import FinetuneJob
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.settings.section import differing_keys, dumps, load_json, parse

LABELLED = {"a": 500, "b": 510}
UNLABELLED = 3000


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A manifest of so many images; nothing reads their pixels."""
    folder = tmp_path_factory.mktemp("images")
    Image.new("L", (8, 8)).save(folder / "one.png")
    counts = {f"train/{name}": count for name, count in LABELLED.items()}
    for where, count in (counts | {"val/a": 1, "val/b": 1, "pretrain": UNLABELLED}).items():
        (folder / where).mkdir(parents=True)
        for number in range(count):
            (folder / where / f"{number}.png").hardlink_to(folder / "one.png")
    manifest.write(folder, splits=("train", "val", "pretrain"))
    return folder / "manifest.parquet"


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


def longer(ours, seed=0):
    return resolve.finetune_job(ours, "scratch-long", seed)


@pytest.fixture
def epochs(images, tmp_path):
    def count(ours):
        path = tmp_path / "config.json"  # what Snakemake hands over
        path.write_text(dumps(longer(ours)))
        return load_json(FinetuneJob, path).with_known_length(images).training.epochs

    return count


def test_scratch_sees_as_many_images_as_both_stages(epochs):
    # 3 epochs of 10 full batches of 100, and 40 images an epoch here
    assert epochs(experiment()) == 10 + 3 * 1000 / 40


def test_an_incomplete_batch_is_no_step(epochs):
    finetune = {"epochs": 10, "batch": 30, "images_per_class": 20}
    assert epochs(experiment(finetune=finetune)) == 10 + 3 * 1000 / 30


def test_unlabelled_images_count_where_they_are_pretrained_on(epochs):
    dataset = {"unlabelled": "somewhere"}
    assert epochs(experiment(dataset=dataset)) == 10 + 3 * 3000 / 40
    ours = experiment({"as_long_as": "supervised"}, dataset=dataset)
    assert epochs(ours) == 10 + 2 * 1000 / 40


def test_an_image_counts_once_for_each_view_of_it(epochs):
    pretrain = {"masked": {"task": "simclr", "epochs": 3, "batch": 100}}
    arms = {"scratch": "scratch", "a": {"pretrain": "masked"}, "scratch-long": {"as_long_as": "a"}}
    assert epochs(experiment(pretrain=pretrain, arms=arms)) == 10 + 2 * 3 * 1000 / 40


def test_large_images_count_by_their_pixels(epochs):
    finetune = {"epochs": 10, "batch": 10, "images_per_class": 20, "crop": {"size": 64}}
    assert epochs(experiment(finetune=finetune)) == 10 + round(3 * 1000 / 40 / 4)


def test_upstreams_recipe_on_all_labels_is_its_epochs_by_pixels(epochs):
    finetune = {"epochs": 100, "batch": 10, "crop": {"size": 160}}
    pretrain = {"m": {"task": "mfm", "epochs": 300, "batch": 10, "crop": {"size": 224}}}
    arms = {"scratch": "scratch", "mfm": {"pretrain": "m"}, "scratch-long": {"as_long_as": "mfm"}}
    ours = experiment(finetune=finetune, pretrain=pretrain, arms=arms)
    assert epochs(ours) == 100 + 300 * 1.96


def test_at_least_one_epoch_more():
    made_up_for = MadeUpFor(name="p", split="train", batch=1, epochs=1, size=8)
    assert made_up_for.epochs_more(images=1, own_images=1000, batch=10, size=64) == 1


def test_other_amounts_of_labels_have_their_own_number(epochs):
    labels = {"key": "finetune", "values": [{"images_per_class": 5, "epochs": 4}]}
    runs = Runs(experiment(variants={"labels": labels}))
    [folder] = [folder for folder in runs.folders if folder]
    assert epochs(runs.at(folder)) == 4 + 3 * 1000 / 10
    assert epochs(runs.at("")) == 10 + 3 * 1000 / 40


def test_nothing_but_the_epochs_is_another_than_scratchs(images):
    ours = experiment()
    found = json.loads(dumps(longer(ours, seed=1).with_known_length(images)))
    scratch = json.loads(dumps(resolve.finetune_job(ours, "scratch", 1)))
    keys = differing_keys(found, scratch)
    assert [key for key in keys if not key.startswith("makes_up_for")] == ["arm", "training.epochs"]
    assert found["source"] == "scratch"
    runs = Runs(ours)
    assert runs.initial_weights("scratch-long", 1) == "scratch"
    assert runs.initial_files("scratch-long", 1) == []


def test_another_arms_length_is_known_from_the_start(images):
    job = resolve.finetune_job(experiment(), "scratch", 0)
    assert job.with_known_length(images) is job


def test_another_rate_of_the_pretraining_does_not_train_it_again():
    pretrain = {"masked": {"task": "mfm", "epochs": 3, "batch": 100, "optimizer": {"lr": 0.1}}}
    arms = {"scratch": "scratch", "mfm": {"pretrain": "masked"}}
    arms["scratch-long"] = {"as_long_as": "mfm"}
    found = [longer(ours) for ours in (experiment(), experiment(pretrain=pretrain, arms=arms))]
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
