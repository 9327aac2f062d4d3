"""Studies of an experiment: their values, and which runs they share."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mfm.errors import UserError
from mfm.experiment.resolve import (
    evaluate_job,
    finetune_job,
    finetunings,
    pretrain_job,
    pretrainings,
)
from mfm.experiment.settings import Experiment, value_at, with_value
from mfm.experiment.variants import Runs, name_of, variants_of
from mfm.settings.section import dumps, parse

VALUES = {
    "seeds": [0, 1],
    "dataset": {"name": "own", "source": "generated", "image_size": 32},
    "pretrain": {
        "masked": {"task": "mfm", "epochs": 3, "seeds": [4, 5]},
        "labels.v2": {"task": "supervised", "epochs": 2},
    },
    "arms": {
        "scratch": "scratch",
        "mfm": {"pretrain": "masked"},
        "supervised": {"pretrain": "labels.v2"},
        "given": {"weights": "x.pth"},
        "long": {"as_long_as": "mfm"},
    },
    "finetune": {"epochs": 10, "loss": "ce"},
}
ARMS = tuple(VALUES["arms"])


def experiment(**variants):
    return parse(Experiment, VALUES | {"variants": variants}, where="test")


def study(key, *values):
    return {"key": key, "values": list(values)}


def complaint(**variants):
    with pytest.raises(UserError) as caught:
        Runs(experiment(**variants))
    return str(caught.value)


def own_folders(runs):
    """Folders that have runs, of each kind."""
    return {
        "pretrain": {folder for folder, _, _ in runs.pretrainings},
        "finetune": {folder for folder, _, _ in runs.finetunings},
        "evaluate": {folder for folder, _, _ in runs.evaluations()},
    }


# Values


def test_a_scalar():
    ours, bce = variants_of(experiment(loss=study("finetune.loss", "ce", "bce")), "loss")
    assert (ours.name, ours.own, ours.folder) == ("ce", True, "")
    assert (bce.name, bce.own, bce.folder) == ("bce", False, "variants/loss/bce/")
    assert bce.experiment.finetune.loss == "bce"
    assert bce.experiment.variants == {}
    changed = bce.experiment.model_dump()
    changed["finetune"]["loss"] = "ce"
    assert changed == ours.experiment.model_dump() | {"variants": {}}


def test_the_experiments_own_value_takes_part_unasked():
    found = variants_of(experiment(loss=study("finetune.loss", "bce")), "loss")
    assert [(variant.name, variant.own) for variant in found] == [("ce", True), ("bce", False)]


def test_the_order_is_the_configurations():
    found = variants_of(experiment(e=study("finetune.epochs", 30, 10, 20)), "e")
    assert [variant.value for variant in found] == [30, 10, 20]
    assert [variant.own for variant in found] == [False, True, False]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrain.masked.optimizer.lr", 0.5),
        ("pretrain.labels.v2.schedule.end", 0.5),
        ("finetune.crop.area", [0.5, 1.0]),
        ("finetune.randaugment", {"ops": 2}),
        ("arms.mfm.pretrain", "labels.v2"),
        ("seeds", [0]),
        ("loader", "dali"),
    ],
)
def test_a_key_at_any_depth(key, value):
    _, varied = variants_of(experiment(s=study(key, value)), "s")
    found = value_at(varied.experiment, key)
    found = list(found) if isinstance(found, tuple) else found
    assert found == value or value.items() <= found.items()


def test_a_name_with_dots_is_found_before_a_shorter_one():
    values = VALUES | {
        "pretrain": {
            "labels": {"task": "supervised", "epochs": 1},
            **VALUES["pretrain"],
        }
    }
    ours = parse(Experiment, values, where="test")
    assert value_at(ours, "pretrain.labels.v2.epochs") == 2
    assert value_at(ours, "pretrain.labels.epochs") == 1
    changed = with_value(ours, "pretrain.labels.v2.epochs", 7)
    assert [changed.pretrain[name].epochs for name in ("labels", "labels.v2")] == [1, 7]


def test_a_mapping_changes_several_keys_of_a_section():
    amounts = study(
        "finetune", {"images_per_class": 5, "batch": 20}, {"fraction": 0.1}, {"fraction": None}
    )
    five, tenth, every = variants_of(experiment(labels=amounts), "labels")
    assert [variant.name for variant in (five, tenth, every)] == [
        "batch-20_images_per_class-5",
        "fraction-0.1",
        "all",
    ]
    assert (five.experiment.finetune.images_per_class, five.experiment.finetune.batch) == (5, 20)
    assert five.experiment.finetune.epochs == 10
    assert tenth.experiment.finetune.fraction == 0.1
    assert (every.own, every.folder) == (True, "")


def test_the_own_value_of_a_section_is_of_the_keys_that_are_varied():
    own, _ = variants_of(experiment(labels=study("finetune", {"images_per_class": 5})), "labels")
    assert (own.value, own.name, own.own) == ({"images_per_class": None}, "all", True)
    own, _ = variants_of(experiment(b=study("finetune", {"fraction": 0.5, "batch": 8})), "b")
    assert own.name == "own", "its batch alone would not say what it is"


def test_a_section_that_is_off_is_turned_on_and_off():
    bands = study("evaluate.bands", {"radii": [2]})
    off, on = variants_of(experiment(b=bands), "b")
    assert (off.own, off.name, off.experiment.evaluate.bands) == (True, "none", None)
    assert on.experiment.evaluate.bands.radii == [2]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("bce", "bce"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (3, "3"),
        (True, "True"),
        (None, "none"),
        ([0.2, 1.0], "0.2-1"),
        ({"a": 1, "b": None, "c": [2, 3]}, "a-1_c-2-3"),
        ({"a": None}, "all"),
        ("some/file x.pth", "some-file-x.pth"),
    ],
)
def test_names_of_values(value, name):
    assert name_of(value) == name


# What is wrong


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("finetune.los", "loss"),
        ("finetun.loss", "finetune"),
        ("pretrain.maskd.epochs", "masked"),
        ("finetune.loss.more", "loss"),
        ("nothing", "variants"),
    ],
)
def test_a_wrong_key_names_the_nearest(key, near):
    message = complaint(mine=study(key, 1))
    assert message.startswith(f"test: variants.mine: there is no key '{key}'")
    assert near in message


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("finetune.loss", "mse", "finetune.loss: should be 'bce' or 'ce', not 'mse'"),
        ("finetune.epochs", 0, "greater than or equal to 1"),
        ("finetune", {"epoch": 3}, "unknown key 'finetune.epoch' (did you mean 'epochs'?)"),
        ("arms.mfm.pretrain", "maskd", "did you mean 'masked'?"),
        ("baseline", "scrach", "did you mean 'scratch'?"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_the_variants_name(key, value, part):
    message = complaint(mine=study(key, value))
    assert message.startswith(f"test: variants.mine: with {key}: {value}: ")
    assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("values", [(0.1, 0.1), (0.1, "0.1"), (0.10000001, 0.1), (0, 0.0)])
def test_values_of_one_name_are_refused(values):
    message = complaint(mine=study("finetune.smoothing", *values))
    assert message == "variants.mine.values: give each value once"


def test_a_study_needs_values_and_a_safe_name():
    assert "variants.mine.values" in complaint(mine={"key": "finetune.loss", "values": []})
    assert "use letters, digits" in complaint(**{"a/b": study("finetune.loss", "bce")})


@pytest.mark.parametrize(
    ("key", "says"),
    [("initialisations", "arms"), ("label_efficiency", "variants"), ("ablations", "variants")],
)
def test_a_key_of_before_names_the_one_of_now(key, says):
    with pytest.raises(UserError, match=f"'{key}' is now {says}") as caught:
        parse(Experiment, VALUES | {key: {}}, where="config.yaml")
    assert "\n" not in str(caught.value)


def test_all_keys_of_before_are_told_at_once():
    with pytest.raises(
        UserError, match=r"'initialisations' is now arms; 'label_efficiency' is now"
    ):
        parse(Experiment, VALUES | {"label_efficiency": [], "initialisations": {}}, where="test")


# Shared runs


def test_without_studies_all_runs_are_the_experiments_own():
    runs = Runs(experiment())
    assert runs.folders == [""]
    assert own_folders(runs) == {"pretrain": {""}, "finetune": {""}, "evaluate": {""}}
    assert len(runs.finetunings) == len(runs.evaluations()) == 2 * len(ARMS)


def test_a_finetunings_variant_repeats_no_pretraining():
    runs = Runs(experiment(loss=study("finetune.loss", "bce")))
    folder = "variants/loss/bce/"
    assert own_folders(runs) == {
        "pretrain": {""},
        "finetune": {"", folder},
        "evaluate": {"", folder},
    }
    backbone = "results/pretrain/masked/seed5/backbone.safetensors"
    assert runs.initial_weights("mfm", 1, folder=folder) == backbone
    assert runs.varied_arms("loss") == list(ARMS)


def test_an_evaluations_variant_repeats_no_training():
    runs = Runs(experiment(size=study("evaluate.resize", 36)))
    folder = "variants/size/36/"
    assert own_folders(runs) == {
        "pretrain": {""},
        "finetune": {""},
        "evaluate": {"", folder},
    }
    assert runs.evaluation("mfm", 0, folder=folder) == folder
    assert runs.finetuning("mfm", 0, folder=folder) == ""


def test_a_pretrainings_variant_shares_the_arms_that_do_not_use_it():
    runs = Runs(experiment(radius=study("pretrain.masked.radius", 5)))
    folder = "variants/radius/5/"
    assert set(runs.pretrainings) == {
        *(("", "masked", seed) for seed in (4, 5)),
        ("", "labels.v2", 0),
        *((folder, "masked", seed) for seed in (4, 5)),
    }
    repeated = {arm for where, arm, _ in runs.finetunings if where == folder}
    assert repeated == {"mfm"}
    assert runs.varied_arms("radius") == ["mfm"]
    weights = runs.initial_weights("mfm", 0, folder=folder)
    assert weights == f"results/{folder}pretrain/masked/seed4/backbone.safetensors"
    assert runs.initial_files("mfm", 0, folder=folder) == [weights]


def test_a_longer_pretraining_makes_the_arm_of_equal_length_longer():
    runs = Runs(experiment(epochs=study("pretrain.masked.epochs", 6)))
    repeated = {arm for where, arm, _ in runs.finetunings if where}
    assert repeated == {"mfm", "long"}


def test_a_pretraining_that_no_arm_uses_varies_nothing():
    values = VALUES | {"pretrain": VALUES["pretrain"] | {"unused": {"task": "mfm"}}}
    values |= {"variants": {"r": study("pretrain.unused.radius", 5)}}
    runs = Runs(parse(Experiment, values, where="test"))
    assert own_folders(runs) == {"pretrain": {""}, "finetune": {""}, "evaluate": {""}}
    assert runs.varied_arms("r") == list(runs.experiment.arms), "all, so that its page has rows"


def test_two_studies_with_the_same_value_share_its_runs():
    runs = Runs(
        experiment(
            loss=study("finetune.loss", "bce"),
            again=study("finetune", {"loss": "bce"}, {"loss": "bce", "smoothing": 0.1}),
        )
    )
    first, second = "variants/loss/bce/", "variants/again/loss-bce/"
    assert runs.finetuning("mfm", 0, folder=second) == first
    assert runs.evaluation("mfm", 0, folder=second) == first
    rows = [
        runs.rows(next(v for v in runs.studies[name] if v.folder == folder))
        for name, folder in (("loss", first), ("again", second))
    ]
    assert rows[0] == rows[1]
    assert rows[0][0] == f"results/{first}evaluate/scratch/seed0.csv"
    assert own_folders(runs)["finetune"] == {"", first, "variants/again/loss-bce_smoothing-0.1/"}


def test_the_table_has_the_rows_of_the_own_value():
    runs = Runs(experiment(loss=study("finetune.loss", "bce")))
    own = runs.studies["loss"][0]
    expected = [f"results/evaluate/{arm}/seed{seed}.csv" for arm in ARMS for seed in (0, 1)]
    assert runs.rows(own) == expected


def test_weights_by_name_are_fetched_for_the_variant_that_has_them():
    one, two = "ResNet18_Weights.DEFAULT", "ResNet18_Weights.IMAGENET1K_V1"
    values = VALUES | {"arms": VALUES["arms"] | {"given": {"weights": one}}}
    studies = {"file": study("arms.given.weights", two), "loss": study("finetune.loss", "bce")}
    runs = Runs(parse(Experiment, values | {"variants": studies}, where="test"))
    folder = f"variants/file/{two}/"
    own = ["results/weights/given.json"]
    assert runs.initial_files("given", 0) == runs.initial_files("given", 1) == own
    assert runs.initial_files("given", 0, folder="variants/loss/bce/") == own
    assert runs.initial_files("given", 0, folder=folder) == [f"results/{folder}weights/given.json"]
    assert runs.initial_weights("given", 0, folder=folder) == two


def test_more_seeds_share_those_there_are():
    runs = Runs(experiment(n=study("seeds", [0, 1, 2])))
    folder = "variants/n/0-1-2/"
    assert {(where, seed) for where, _, seed in runs.finetunings} == {("", 0), ("", 1), (folder, 2)}


def test_further_evaluations_are_shared_as_the_tables():
    values = VALUES | {
        "evaluate": {"bands": {"radii": [2]}},
        "variants": {"size": study("evaluate.resize", 36), "epochs": study("finetune.epochs", 20)},
    }
    runs = Runs(parse(Experiment, values, where="test"))
    every = {"", "variants/size/36/", "variants/epochs/20/"}
    assert {folder for folder, _, _ in runs.evaluations("bands")} == every
    assert {folder for folder, _, _ in runs.evaluations()} == every
    assert {folder for folder, _, _ in runs.finetunings} == {"", "variants/epochs/20/"}


STUDIES = {
    "loss": study("finetune.loss", "ce", "bce"),
    "recipe": study("finetune", {"loss": "bce"}, {"epochs": 20, "batch": 128}),
    "labels": study("finetune", {"images_per_class": 5}, {"images_per_class": None}),
    "radius": study("pretrain.masked.radius", 2, 5),
    "pretrainings": study("pretrain.masked.seeds", [4], [5, 4], [4, 5, 6]),
    "length": study("pretrain.masked.epochs", 3, 6),
    "source": study("arms.mfm.pretrain", "masked", "labels.v2"),
    "network": study("model.drop_path", 0.0, 0.1),
    "size": study("evaluate.resize", 32, 40),
    "bands": study("evaluate.bands", {"radii": [2]}, None),
    "seeds": study("seeds", [0], [0, 1, 2]),
    "files": study("arms.given.weights", "x.pth", "y.pth"),
}


@given(names=st.lists(st.sampled_from(sorted(STUDIES)), unique=True, min_size=2, max_size=4))
@example(names=sorted(STUDIES))
@settings(deadline=None, max_examples=6)
def test_a_run_is_done_once_and_is_what_each_of_its_users_wants(names):
    runs = Runs(experiment(**{name: STUDIES[name] for name in names}))
    evaluations = runs.evaluations()
    for kind in (runs.pretrainings, runs.finetunings, evaluations):
        assert len(set(kind)) == len(kind)

    def pretraining(folder, name, seed):
        return dumps(pretrain_job(runs.at(folder), name, seed))

    def finetuning(folder, arm, seed):
        job = dumps(finetune_job(runs.at(folder), arm, seed))
        return job, runs.initial_weights(arm, seed, folder=folder)

    def evaluation(folder, arm, seed):
        where = runs.finetuning(arm, seed, folder=folder)
        return dumps(evaluate_job(runs.at(folder))), finetuning(where, arm, seed)

    # No two runs are equal,
    for kind, content in (
        (runs.pretrainings, pretraining),
        (runs.finetunings, finetuning),
        (evaluations, evaluation),
    ):
        found = [content(*run) for run in kind]
        assert len(set(found)) == len(found)
    # and whoever is sent to another folder's run gets the one that is wanted.
    for folder in runs.folders:
        for arm, seed in finetunings(runs.at(folder)):
            where = runs.finetuning(arm, seed, folder=folder)
            assert (where, arm, seed) in runs.finetunings
            assert finetuning(where, arm, seed) == finetuning(folder, arm, seed)
            where = runs.evaluation(arm, seed, folder=folder)
            assert (where, arm, seed) in evaluations
            assert evaluation(where, arm, seed) == evaluation(folder, arm, seed)


@pytest.mark.parametrize("order", list(itertools.permutations(("loss", "recipe", "pretrainings"))))
def test_the_experiments_own_runs_are_never_a_variants(order):
    runs = Runs(experiment(**{name: STUDIES[name] for name in order}))
    assert all(runs.pretraining(*run) == "" for run in pretrainings(runs.experiment))
    assert all(runs.finetuning(arm, 0) == runs.evaluation(arm, 0) == "" for arm in ARMS)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dataset.source", "fashion-mnist"), ("dataset.holdout_per_class", 5), ("results", "other")],
)
def test_variants_have_one_dataset_and_one_results_folder(key, value):
    with pytest.raises(UserError, match=f"variants.v: {key} is the same in all variants"):
        variants_of(experiment(v=study(key, value)), "v")
    assert len(variants_of(experiment(v=study("dataset.image_size", 64)), "v")) == 2


def test_a_value_too_long_for_a_folders_name_has_a_shorter_one():
    keys = {"epochs": 1, "batch": 2, "micro_batch": 2, "clip": 1 / 7, "mixup": 1 / 9}
    keys |= {"cutmix": 1 / 11, "smoothing": 1 / 3, "mean": [1 / 7] * 3, "std": [1 / 3] * 3}
    keys |= {"optimizer": {"lr": 1 / 11, "weight_decay": 1 / 13, "betas": [1 / 17, 1 / 19]}}
    values = [keys | {"schedule": {"warmup_start": 1 / 7, "end": 1 / k}} for k in (3, 9)]
    found = Runs(experiment(long=study("finetune", *values))).studies["long"]
    names = [each.name for each in found if not each.own]
    assert len(set(names)) == 2
    assert all(len(name) < 100 for name in names), names
