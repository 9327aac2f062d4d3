import copy
import itertools
import json
import math
import pkgutil
import re
from importlib import import_module

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

import mfm
from mfm.commands import train
from mfm.data.settings import Dataset, DatasetJob, RandAugment
from mfm.errors import UserError
from mfm.evaluation.job import EvaluateJob
from mfm.experiment import preflight, resolve
from mfm.experiment.arms import FromWeights
from mfm.experiment.jobs import DatasetReportJob, FinetuneJob, PretrainJob, load_training
from mfm.experiment.settings import Experiment, load_yaml
from mfm.experiment.variants import Runs
from mfm.models.settings import Model
from mfm.models.sources import is_path
from mfm.objectives.mfm.settings import MfmPretraining, default_low_pass, default_radius
from mfm.objectives.supervised.settings import Finetuning
from mfm.settings.section import (
    Section,
    config_hash,
    differing_keys,
    dumps,
    dumps_ordered,
    load_json,
    parse,
)
from mfm.training.settings import Optimizer
from mfm.version import FOLDERS

VALUES = {
    "seeds": [0, 1],
    "dataset": {"name": "own", "source": "generated", "image_size": 32},
    "model": {"backbone": "resnet18"},
    "pretrain": {
        "mfm": {"task": "mfm", "crop": {"size": 32}, "optimizer": {"lr": 0.001}},
        "sup": {"task": "supervised", "schedule": {"end": 0.1}},
    },
    "arms": {
        "scratch": "scratch",
        "supervised": {"pretrain": "sup"},
        "mfm": {"pretrain": "mfm"},
    },
    "finetune": {
        "crop": {"size": 32},
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup_epochs": 1},
        "randaugment": {"ops": 2},
    },
    "evaluate": {"resize": 32},
}

# What pydantic calls things, and no user should have to read.
INTERNAL = re.compile(
    r"literal\[|function-after|function-before|\[key\]|FromWeights\b|Pretraining\b|tagged|"
    r"discriminator|union"
)


def changed(path, value, **beside):
    """VALUES with the key at the dotted path set, and the keys beside it."""
    values = copy.deepcopy(VALUES)
    *parents, last = path.split(".")
    section = values
    for key in parents:
        section = section.setdefault(key, {})
    section.update({last: value} | beside)
    return values


def without(path):
    values = copy.deepcopy(VALUES)
    *parents, last = path.split(".")
    section = values
    for key in parents:
        section = section[key]
    del section[last]
    return values


def experiment(values=VALUES):
    return parse(Experiment, values, where="config.yaml")


def complaint(values):
    with pytest.raises(UserError) as caught:
        experiment(values)
    message = str(caught.value)
    assert message.startswith("config.yaml: ")
    return message


def sections():
    """Every section that a module of the rooms which can change a result defines."""
    found = {}
    for info in pkgutil.walk_packages(mfm.__path__, "mfm."):
        if info.name.split(".")[1] not in FOLDERS:
            continue
        for value in vars(import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, Section):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return [found[name] for name in sorted(found)]


SECTIONS = sections()


def shuffled(values, order):
    if not isinstance(values, dict):
        return values
    keys = order.sample(list(values), len(values))
    return {key: shuffled(values[key], order) for key in keys}


def test_accepts_the_example():
    assert list(experiment().arms) == ["scratch", "supervised", "mfm"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("sedes", "seeds"),
        ("dataset.nmae", "name"),
        ("dataset.image_sise", "image_size"),
        ("model.bakcbone", "backbone"),
        ("pretrain.mfm.raduis", "radius"),
        ("pretrain.mfm.seed", "seeds"),
        ("pretrain.mfm.crop.interpolatoin", "interpolation"),
        ("pretrain.sup.smoothin", "smoothing"),
        ("pretrain.sup.schedule.warmup_epoch", "warmup_epochs"),
        ("finetune.epoch", "epochs"),
        ("finetune.optimizer.weightdecay", "weight_decay"),
        ("finetune.randaugment.magnitud", "magnitude"),
        ("arms.mfm.pretrian", "pretrain"),
        ("arms.new.weight", "weights"),
        ("evaluate.resise", "resize"),
        ("learning_rate", "finetune.optimizer.lr"),
        ("finetune.learning_rate", "finetune.optimizer.lr"),
        ("finetune.optimizer.learning_rate", "lr"),
        ("finetune.batch_size", "batch"),
        ("batch_size", "finetune.batch"),
        ("pretrain.mfm.lr", "pretrain.mfm.optimizer.lr"),
        ("pretrain.mfm.wd", "pretrain.mfm.optimizer.weight_decay"),
        ("finetune.Epochs", "epochs"),
        ("model.arch", "backbone"),
        ("dataset.path", "source"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_valid_one(path, near):
    message = complaint(changed(path, 1))
    assert f"unknown key '{path}'" in message
    assert f"did you mean '{near}'?" in message


@pytest.mark.parametrize("section", ["pretrain.mfm", "finetune.optimizer", "arms.mfm"])
def test_unknown_key_like_none_lists_the_valid_ones(section):
    message = complaint(changed(f"{section}.zzzzzzzz", 1))
    listed = re.search(r"unknown key '[^']+' \(known: ([^)]*)\)", message)
    assert listed
    expected = {
        "pretrain.mfm": MfmPretraining,
        "finetune.optimizer": Optimizer,
        "arms.mfm": FromWeights,
    }[section]
    assert set(listed[1].split(", ")) == set(expected.model_fields)


@pytest.mark.parametrize("name", ["crop", "optimizer", "supervised", "mfm", "task"])
def test_a_pretraining_named_like_a_key_or_task_is_no_other(name):
    training = {"task": "mfm", "raduis": 1, "crop": {"siez": 32}}
    message = complaint(VALUES | {"pretrain": VALUES["pretrain"] | {name: training}})
    assert f"unknown key 'pretrain.{name}.raduis' (did you mean 'radius'?)" in message
    assert f"unknown key 'pretrain.{name}.crop.siez' (did you mean 'size'?)" in message


def test_a_key_of_the_other_pretraining_task_is_unknown():
    assert "unknown key 'pretrain.sup.radius'" in complaint(changed("pretrain.sup.radius", 3))
    assert "unknown key 'pretrain.mfm.mixup'" in complaint(changed("pretrain.mfm.mixup", 0.1))


def test_all_problems_are_told_at_once():
    values = changed("sedes", 1)
    values["finetune"]["optimizer"]["lr"] = -1
    message = complaint(values)
    assert "sedes" in message
    assert "finetune.optimizer.lr" in message


@pytest.mark.parametrize(
    ("path", "value", "key", "allowed"),
    [
        ("finetune.optimizer.lr", -1, "finetune.optimizer.lr", "greater than 0"),
        ("finetune.optimizer.lr", "fast", "finetune.optimizer.lr", "number"),
        ("finetune.optimizer.name", "adam", "finetune.optimizer.name", "'adamw', 'sgd' or 'lamb'"),
        ("finetune.optimizer.betas", [0.9, 1.0], "finetune.optimizer.betas", "in [0, 1)"),
        ("finetune.loss", "mse", "finetune.loss", "'bce' or 'ce'"),
        ("finetune.precision", "fp8", "finetune.precision", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("finetune.crop.area", [0.2, 1.5], "finetune.crop.area", "at most 1"),
        ("finetune.crop.area", [0.8, 0.2], "finetune.crop.area", "low <= high"),
        ("finetune.crop.flip", 2, "finetune.crop.flip", "less than or equal to 1"),
        ("finetune.randaugment.magnitude", 10, "finetune.randaugment", "below bins"),
        ("finetune.smoothing", 1.0, "finetune.smoothing", "less than 1"),
        ("finetune.clip", 0, "finetune.clip", "greater than 0"),
        ("pretrain.mfm.recipe", "papr", "pretrain.mfm.recipe", "'upstream' or 'paper'"),
        ("pretrain.mfm.radius", 0, "pretrain.mfm.radius", "greater than 0"),
        ("pretrain.mfm.low_pass", 1.5, "pretrain.mfm.low_pass", "less than or equal to 1"),
        ("pretrain.mfm.crop.size", 4, "pretrain.mfm.crop.size", "greater than or equal to 8"),
        ("pretrain.mfm.epochs", 0, "pretrain.mfm.epochs", "greater than or equal to 1"),
        ("evaluate.crop", 64, "evaluate", "crop <= resize"),
        ("seeds", [1, 1], "seeds", "give each value once"),
        ("seeds", [-1], "seeds.0", "greater than or equal to 0"),
        ("seeds", [0, 2**31], "seeds.1", "less than 2147483648"),
        ("pretrain.mfm.seeds", [2**31], "pretrain.mfm.seeds.0", "less than 2147483648"),
        ("pretrain.mfm.seeds", [], "pretrain.mfm.seeds", "at least 1"),
        ("seeds", [0, "x"], "seeds.1", "integer"),
        ("seeds", [], "seeds", "at least 1"),
        ("seeds", [2**64], "seeds.0", "less than 2147483648"),
        ("seeds", [10**30], "seeds.0", "less than 2147483648, not 1000000000000000000000000000000"),
        ("finetune.epochs", 2**64, "finetune", "epochs should be less than 2147483648"),
        ("evaluate.resize", 10**6, "evaluate.resize", "less than or equal to 4096"),
        ("arms", {}, "arms", "give at least 1"),
        ("dataset.source", "a\0b", "dataset.source", "has a character that can't be printed"),
        ("dataset.source", "~no-such-user/x", "dataset.source", "there is no such home folder"),
        ("arms.new", {"weights": "{x}.pth"}, "arms.new.weights", "has { }, which stands for"),
        ("pretrain.mfm.weights", "x[1].pth", "pretrain.mfm.weights", "has [ ], which stands"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(path, value, key, allowed):
    message = complaint(changed(path, value))
    assert re.search(rf"config.yaml: {re.escape(key)}:? ", message), message
    assert allowed in message
    assert not INTERNAL.search(message), message


def test_a_number_too_long_to_be_shown_is_told():
    message = complaint(VALUES | {"seeds": [10**5000]})
    assert message.endswith(
        "seeds.0: should be less than 2147483648, not a number of far more digits"
    )
    message = complaint(changed("evaluate.batch", 10**5000))
    assert "evaluate: batch should be less than 2147483648" in message


def test_a_wrong_value_is_shown():
    assert "'fast'" in complaint(changed("finetune.optimizer.lr", "fast"))


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize(
    "path", ["finetune.optimizer.lr", "finetune.schedule.warmup_epochs", "pretrain.mfm.radius"]
)
def test_numbers_have_to_be_finite(path, value):
    assert path in complaint(changed(path, value))


@pytest.mark.parametrize("std", [[0.0, 0.0, 0.0], [0.2, -0.2, 0.2]])
def test_a_standard_deviation_is_positive(std):
    assert "finetune.std" in complaint(changed("finetune.std", std))


@pytest.mark.parametrize("section", ["pretrain.mfm", "pretrain.sup", "finetune"])
def test_the_batch_divides_by_the_ranks(section):
    message = complaint(changed(f"{section}.batch", 30, ranks=4))
    assert message == f"config.yaml: {section}: batch 30 does not divide by ranks 4"


@pytest.mark.parametrize(("batch", "ranks"), [(3, 1), (6, 2)])
def test_mixing_pairs_images(batch, ranks):
    values = changed("finetune.mixup", 0.1, batch=batch, ranks=ranks)
    assert "has to be even" in complaint(values)


def test_a_typo_of_scratch_is_told_readably():
    message = complaint(changed("arms.new", "scrach"))
    assert "arms.new" in message
    assert "'scratch'" in message
    assert not INTERNAL.search(message), message


@pytest.mark.parametrize(
    "arm", [{"pretrain": "mfm", "weights": "file.pth"}, {}, None, 3, ["mfm"]], ids=str
)
def test_a_wrong_arm_is_told_with_all_that_is_allowed(arm):
    message = complaint(changed("arms.new", arm))
    assert "arms.new" in message
    for choice in ("scratch", "pretrain", "weights"):
        assert choice in message
    assert not INTERNAL.search(message), message


def test_a_typo_in_an_arm_is_told_as_nothing_else():
    message = complaint(changed("arms.new", {"pretrian": "mfm"}))
    assert "unknown key 'arms.new.pretrian'" in message
    assert "should be 'scratch'" not in message
    assert not INTERNAL.search(message), message


def test_an_unknown_task_is_told_with_the_known_ones():
    message = complaint(changed("pretrain.mfm.task", "mmf"))
    assert re.search(r"pretrain\.mfm(\.task)?:", message), message
    for word in ("'mmf'", "'mfm'", "'supervised'"):
        assert word in message
    assert not INTERNAL.search(message), message


def test_a_missing_task_is_told_readably():
    message = complaint(without("pretrain.mfm.task"))
    assert re.search(r"pretrain\.mfm(\.task)?:", message), message
    assert "task" in message
    assert not INTERNAL.search(message), message


def test_an_unknown_pretraining_suggests_the_near_one():
    message = complaint(changed("arms.mfm.pretrain", "mfn"))
    assert "arms.mfm" in message
    assert "'mfn'" in message
    assert "did you mean 'mfm'?" in message


def test_an_unknown_baseline_suggests_the_near_one():
    message = complaint(changed("baseline", "scrach"))
    assert "baseline 'scrach'" in message
    assert "did you mean 'scratch'?" in message


@pytest.mark.parametrize("name", ["../x", "a b", "", ".", "..", "-x", "a/b", "a\n", "a;b", "$x"])
def test_unsafe_names_are_refused(name):
    for values in (
        changed("dataset.name", name),
        VALUES | {"arms": VALUES["arms"] | {name: "scratch"}},
        VALUES | {"pretrain": VALUES["pretrain"] | {name: {"task": "mfm"}}},
    ):
        message = complaint(values)
        assert "use letters, digits" in message
        assert not INTERNAL.search(message), message


@pytest.mark.parametrize("name", ["x" * 300, "é" * 150])
def test_names_longer_than_a_files_are_refused(name):
    for values in (
        changed("dataset.name", name),
        VALUES | {"arms": VALUES["arms"] | {name: "scratch"}},
        VALUES | {"pretrain": VALUES["pretrain"] | {name: {"task": "mfm"}}},
        VALUES | {"variants": {name: {"key": "finetune.loss", "values": ["bce"]}}},
    ):
        message = complaint(values)
        assert f"has {len(name)} characters, too many for a file's name" in message
        assert len(message) < 250


@pytest.mark.parametrize(
    "path",
    ["question", "tuning", "frozen", "finetune.clip", "dataset.unlabelled", "pretrain.mfm.radius"],
)
def test_null_as_a_text_is_null(path):
    # as `snakemake --config` gives it
    assert experiment(changed(path, "null")) == experiment(changed(path, None))
    assert "'null'" in complaint(changed("finetune.epochs", "null"))


@given(name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,10}", fullmatch=True))
@settings(deadline=None)
def test_safe_names_are_accepted(name):
    assert experiment(changed("dataset.name", name)).dataset.name == name


@pytest.mark.parametrize("name", [True, 1, None])
def test_a_name_that_yaml_read_as_something_else_is_told(name):
    values = VALUES | {"arms": VALUES["arms"] | {name: "scratch"}}
    assert "string" in complaint(values)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: each.__name__)
def test_every_field_is_described(section):
    bare = [name for name, field in section.model_fields.items() if not field.description]
    assert bare == []


@given(order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_canonical_json_ignores_key_order(order):
    reordered = shuffled(VALUES, order)
    assert dumps(experiment(reordered)) == dumps(experiment())
    assert config_hash(experiment(reordered)) == config_hash(experiment())


def test_a_default_written_out_is_the_same_configuration():
    explicit = changed("finetune.optimizer.lr_batch", 256)
    assert dumps(experiment(explicit)) == dumps(experiment())


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3"])
def test_one_number_written_differently_is_the_same_configuration(text, tmp_path):
    # YAML 1.1 reads 1e-3 as a string
    path = tmp_path / "config.yaml"
    path.write_text(f"finetune: {{optimizer: {{lr: {text}}}}}")
    expected = Experiment(finetune={"optimizer": {"lr": 0.001}})
    assert dumps(load_yaml(path)) == dumps(expected)


def test_json_round_trip_gives_an_equal_section():
    for write in (dumps, dumps_ordered):
        again = parse(Experiment, json.loads(write(experiment())), where="again")
        assert again == experiment()


def test_ordered_json_keeps_the_arms_in_order():
    arms = {"z": "scratch", "b": {"pretrain": "mfm"}, "a": {"weights": "x.pth"}}
    ours = experiment(VALUES | {"arms": arms, "baseline": "z"})
    assert list(json.loads(dumps_ordered(ours))["arms"]) == ["z", "b", "a"]


class Pinned(Section):
    number: float = 0.1
    pair: tuple[float, float] = (1.0, 2.0)
    text: str | None = None
    nested: dict[str, int] | None = None


def test_config_hash_is_stable():
    # A changed hash would tell users that finished runs were of another configuration.
    values = {"number": 1e-3, "text": "é", "nested": {"b": 1, "a": 2}}
    assert config_hash(Pinned(**values)) == "e418d21886fb"


def test_config_hash_changes_with_a_value():
    assert config_hash(Pinned(number=0.2)) != config_hash(Pinned())


def test_differing_keys_are_dotted():
    ours = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": 1, "same": {"x": 1}}
    theirs = {"a": {"b": 2, "c": {"d": [1, 3]}}, "f": 1, "same": {"x": 1}}
    assert differing_keys(ours, theirs) == ["a.b", "a.c.d", "e", "f"]


def test_equal_configurations_differ_in_no_key():
    ours = json.loads(dumps(experiment()))
    assert differing_keys(ours, copy.deepcopy(ours)) == []


@pytest.mark.parametrize(
    "path", ["finetune.optimizer.lr", "pretrain.mfm.radius", "evaluate.batch", "baseline"]
)
def test_differing_keys_name_the_one_that_changed(path):
    value = "mfm" if path == "baseline" else 7
    ours, theirs = (
        json.loads(dumps(each)) for each in (experiment(), experiment(changed(path, value)))
    )
    assert differing_keys(ours, theirs) == [path]


JOBS = {
    "dataset": resolve.dataset_job,
    "report": resolve.dataset_report_job,
    "pretrain": lambda ours: resolve.pretrain_job(ours, "mfm", 0),
    "finetune": lambda ours: resolve.finetune_job(ours, "mfm", 1),
    "evaluate": resolve.evaluate_job,
}


def resolved(values):
    ours = experiment(values)
    return {stage: dumps(job(ours)) for stage, job in JOBS.items()}


def test_a_new_version_knows_the_finished_runs_of_the_default_experiment():
    """Another text trains everything again: a key that is new says nothing at what held before."""
    ours = load_yaml(ROOT / "config.yaml")
    pretraining = resolve.pretrain_job(ours, "mfm", 0)
    assert config_hash(pretraining) == "4dbccda7bdb8"
    assert config_hash(resolve.finetune_job(ours, "scratch", 0)) == "98d59a3590df"
    training = pretraining.training
    assert training.deterministic
    said = json.loads(dumps(training.model_copy(update={"deterministic": False})))
    assert said["deterministic"] is False, "and is written where it is otherwise"
    assert "deterministic" not in json.loads(dumps(training))


@pytest.mark.parametrize(
    ("path", "value", "stages"),
    [
        ("finetune.optimizer.lr", 0.5, {"finetune"}),
        ("finetune.images_per_class", 3, {"finetune"}),
        ("finetune.mean", [0.5, 0.5, 0.5], {"report", "finetune", "evaluate"}),
        ("pretrain.mfm.radius", 3.0, {"report", "pretrain"}),
        ("pretrain.sup.epochs", 3, {"report"}),
        ("evaluate.resize", 40, {"evaluate"}),
        ("baseline", "mfm", set()),
        ("results", "elsewhere", set()),
        ("seeds", [0, 1, 2], set()),
        ("pretrain.mfm.seeds", [5, 0], set()),
        ("question", {"arm": "mfm", "baseline": "scratch"}, set()),
        ("arms.new", {"weights": "x.pth"}, set()),
        ("arms.mfm", {"pretrain": "sup"}, {"report", "finetune"}),
        ("model.backbone", "resnet50", {"pretrain", "finetune", "evaluate"}),
        ("dataset.image_size", 64, set(JOBS) - {"dataset"}),
    ],
)
def test_a_change_reaches_only_the_stages_it_determines(path, value, stages):
    before, after = resolved(VALUES), resolved(changed(path, value))
    assert {stage for stage in JOBS if before[stage] != after[stage]} == stages


def test_a_new_seed_changes_no_existing_run():
    ours, more = experiment(), experiment(changed("seeds", [5, 0, 1]))
    for arm, seed in itertools.product(ours.arms, ours.seeds):
        assert resolve.finetune_job(ours, arm, seed) == resolve.finetune_job(more, arm, seed)


def test_runs_of_one_arm_differ_in_their_seed_alone():
    runs = [json.loads(dumps(resolve.finetune_job(experiment(), "mfm", seed))) for seed in (0, 1)]
    assert differing_keys(*runs) == ["seed"]
    assert [run["seed"] for run in runs] == [0, 1]


def test_arms_of_one_seed_differ_in_nothing_but_their_source():
    runs = [
        json.loads(dumps(resolve.finetune_job(experiment(), arm, 0)))
        for arm in ("supervised", "mfm")
    ]
    assert differing_keys(*runs) == ["arm", "source.pretrain"]


def test_what_a_stage_writes_it_can_read(tmp_path):
    kinds = [DatasetJob, DatasetReportJob, PretrainJob, FinetuneJob, EvaluateJob]
    for kind, (stage, job) in zip(kinds, JOBS.items(), strict=True):
        section = job(experiment())
        path = tmp_path / f"{stage}.json"
        path.write_text(dumps(section))
        assert load_json(kind, path) == section
        if stage in ("pretrain", "finetune"):
            assert load_training(path) == section
        else:
            with pytest.raises(UserError, match="is of no training"):
                load_training(path)


def test_only_pretrainings_that_an_arm_uses_are_run():
    ours = experiment(changed("arms.supervised", {"weights": "x.pth"}))
    assert list(resolve.used_pretrainings(ours)) == ["mfm"]


def test_initial_weights_of_each_kind_of_arm():
    arms = {
        "scratch": "scratch",
        "mfm": {"pretrain": "mfm"},
        "named": {"weights": "ResNet18_Weights.IMAGENET1K_V1"},
        "file": {"weights": "some/where.safetensors"},
    }
    ours = experiment(VALUES | {"arms": arms, "results": "results/"})
    runs = Runs(ours)
    found = {arm: (runs.initial_weights(arm, 1), runs.initial_files(arm, 1)) for arm in arms}
    backbone = "results/pretrain/mfm/seed0/backbone.safetensors"
    assert found == {
        "scratch": ("scratch", []),
        "mfm": (backbone, [backbone]),
        "named": ("ResNet18_Weights.IMAGENET1K_V1", ["results/weights/named.json"]),
        "file": ("some/where.safetensors", ["some/where.safetensors"]),
    }


def test_a_training_by_hand_starts_from_what_its_settings_say(tmp_path):
    arms = {
        "scratch": "scratch",
        "mfm": {"pretrain": "mfm"},
        "file": {"weights": "some/where.safetensors"},
        "long": {"as_long_as": "mfm"},
    }
    values = changed("pretrain.mfm.weights", "x.pth") | {"arms": arms}
    ours = experiment(values)
    found = {arm: resolve.finetune_job(ours, arm, 0).initial_weights for arm in arms}
    expected = {"scratch": "scratch", "mfm": None, "file": "some/where.safetensors"}
    assert found == expected | {"long": "scratch"}
    assert resolve.pretrain_job(ours, "mfm", 0).initial_weights == "x.pth"
    assert resolve.pretrain_job(ours, "sup", 0).initial_weights == "scratch"
    # Nobody finetunes from scratch by forgetting what to start from.
    path = tmp_path / "config.json"
    path.write_text(dumps(resolve.finetune_job(ours, "mfm", 0)))
    words = ["--config", str(path), "--manifest", "m.parquet", "--folder", str(tmp_path)]
    with pytest.raises(UserError, match="mfm starts from a pretraining: give its weights with --w"):
        train.main(words)


def test_a_missing_weight_file_is_found_before_any_job():
    ours = experiment(changed("arms.file", {"weights": "nowhere/x.pth"}))
    with pytest.raises(UserError, match=r"arms\.file\.weights.*nowhere/x\.pth"):
        preflight.check(Runs(ours))


def test_a_missing_dataset_is_found_before_any_job():
    ours = experiment(changed("dataset.source", "nowhere"))
    with pytest.raises(UserError, match=r"dataset\.source.*'nowhere'.*fashion-mnist"):
        preflight.check(Runs(ours))


@pytest.mark.parametrize(
    "text",
    [
        "results: !!python/object/apply:os.system ['touch {proof}']",
        "results: !!python/object/new:os.system ['touch {proof}']",
        "dataset: !!python/object:mfm.data.settings.Dataset {{name: x}}",
        "results: !!python/name:os.system",
    ],
)
def test_yaml_constructs_no_python_objects(text, tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "config.yaml"
    path.write_text(text.format(proof=proof))
    with pytest.raises(UserError, match=r"config\.yaml, line 1, column \d+: a tag"):
        load_yaml(path)
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_broken_json_file_is_a_user_error(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        load_json(Dataset, path)


def test_missing_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="none"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="none"):
        load_json(Dataset, tmp_path / "none.json")


def test_values_never_change_later():
    with pytest.raises(ValueError, match="frozen"):
        experiment().dataset.name = "other"


@given(size=st.integers(8, 1024))
@settings(deadline=None)
def test_the_default_radius_scales_with_the_image(size):
    assert default_radius(size) * 224 == pytest.approx(16 * size)


@pytest.mark.parametrize(
    ("recipe", "backbone", "share"),
    [
        ("upstream", "resnet50", 0.5),
        ("paper", "resnet50", 0.3),
        ("paper", "vit_base_patch16_224", 0.5),
        ("upstream", "vit_base_patch16_224", 0.5),
    ],
)
def test_the_default_share_of_low_pass_images(recipe, backbone, share):
    assert default_low_pass(recipe=recipe, backbone=backbone) == share


@pytest.mark.parametrize(
    ("weights", "path"),
    [
        ("ResNet50_Weights.IMAGENET1K_V1", False),
        ("torchvision/ResNet50_Weights.IMAGENET1K_V1", False),
        ("scratch", False),
        ("model.pth", True),
        ("./folder/file", True),
        ("~/model.safetensors", True),
        ("torchvision/model.pth", True),
    ],
)
def test_weights_are_told_as_file_or_name(weights, path):
    assert is_path(weights) is path


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("pretrain.mfm.optimizer.layer_decay", 0.8, "layer_decay is for finetuning"),
        ("pretrain.sup.optimizer.layer_decay", 0.8, "layer_decay is for finetuning"),
        ("finetune.optimizer.layer_decay", 0, "layer_decay"),
        ("finetune.randaugment.magnitude_std", 0.5, "are for kind: timm"),
        ("finetune.randaugment.increasing", True, "are for kind: timm"),
        (
            "finetune.randaugment",
            {"kind": "timm", "magnitude": 11},
            "timm's magnitudes are 0 to 10",
        ),
        ("finetune.randaugment", {"kind": "timm", "bins": 31}, "bins is for kind: torchvision"),
        ("finetune.bce_threshold", 0.2, "bce_threshold is for loss: bce"),
        ("finetune.erasing", 1.5, "finetune.erasing"),
        ("finetune.drop_path", 1.0, "finetune.drop_path"),
        ("finetune.smoothing_over", "most", "finetune.smoothing_over"),
        ("finetune.schedule.cosine_from", "end", "cosine_from"),
        ("model.pooling", "max", "model.pooling"),
        ("pretrain.mfm.weights", "ResNet50_Weights.IMAGENET1K_V1", "give a .pth or .safetensors"),
        ("arms.mfm.classifier", "old", "classifier"),
    ],
)
def test_settings_of_the_papers_recipes_are_checked(path, value, told):
    assert told in complaint(changed(path, value))


def test_settings_of_the_papers_recipes_are_off_by_default():
    found = Finetuning()
    assert (found.erasing, found.bce_threshold, found.drop_path) == (0.0, None, None)
    assert (found.optimizer.layer_decay, found.smoothing_over) == (1.0, "others")
    assert (found.schedule.cosine_from, Model().pooling) == ("warmup_end", None)
    assert RandAugment().kind == "torchvision"
