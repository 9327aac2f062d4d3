import json
from functools import partial
from pathlib import Path

import pytest

from mfm.__main__ import main
from mfm.data.linking import link
from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.experiment import preflight
from mfm.experiment.demands import check_counts, check_sizes, demands_of
from mfm.experiment.resolve import dataset_job, evaluate_job
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.settings.section import dumps, parse

VALUES = {
    "dataset": {"name": "own", "source": "generated", "image_size": 32},
    "pretrain": {
        "mfm": {"task": "mfm", "batch": 64},
        "sup": {"task": "supervised", "batch": 64},
        "unused": {"task": "mfm", "batch": 10_000, "crop": {"size": 9}},
    },
    "arms": {"scratch": "scratch", "s": {"pretrain": "sup"}, "m": {"pretrain": "mfm"}},
    "finetune": {"batch": 8, "images_per_class": 4},
}
SUMMARY = {"splits": {"train": {"images": 100, "per_class": {"ape": 60, "bee": 40}}}}


def demands(**changes):
    return demands_of(runs_of(VALUES, **changes))


def runs_of(values, **changes):
    values = json.loads(json.dumps(values))
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = values
        for key in parents:
            section = section.setdefault(key, {})
        section[last] = value
    return Runs(parse(Experiment, values, where="test"))


def complaint(check, *arguments):
    with pytest.raises(UserError) as caught:
        check(*arguments)
    return str(caught.value)


def test_a_question_about_the_best_of_too_few_classes_is_refused():
    question = {"arm": "m", "baseline": "scratch", "metric": "top_k"}
    told = complaint(check_counts, demands(question=question, pretrain__mfm__batch=64), SUMMARY)
    assert told == (
        "question.metric is top_k, and evaluate.top_k 5, but there are only 2 classes; lower it, "
        "or ask about another metric"
    )


def test_what_fits_exactly_passes():
    check_counts(
        demands(
            pretrain__mfm__batch=100, finetune__images_per_class=40, finetune__batch=80, seeds=[0]
        ),
        SUMMARY,
    )
    check_sizes(demands(dataset__image_size=64))
    check_sizes(demands(dataset__image_size=50, pretrain__mfm__crop={"size": 96}))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"finetune__images_per_class": 41},
            ("finetune.images_per_class is 41", "class bee has 40"),
        ),
        ({"pretrain__mfm__batch": 101}, ("pretrain.mfm.batch is 101", "only 100")),
        ({"pretrain__sup__batch": 101}, ("pretrain.sup.batch is 101", "only 100")),
        ({"finetune__batch": 9}, ("finetune.batch is 9", "only 8")),
        (
            {"finetune__batch": 101, "finetune__images_per_class": None},
            ("finetune.batch is 101", "only 100"),
        ),
    ],
)
def test_too_few_images_are_told_with_the_key(changes, parts):
    message = complaint(check_counts, demands(**changes), SUMMARY)
    assert all(part in message for part in parts), message


def test_only_mfm_is_held_to_the_number_of_unlabelled_images():
    summary = {"splits": SUMMARY["splits"] | {"pretrain": {"images": 70}}}
    check_counts(demands(dataset__unlabelled="x", pretrain__sup__batch=100), summary)
    message = complaint(
        check_counts, demands(dataset__unlabelled="x", pretrain__mfm__batch=71), summary
    )
    assert "pretrain.mfm.batch is 71, but there are only 70 unlabelled images" in message


@pytest.mark.parametrize(
    ("changes", "key", "nearest"),
    [
        ({"dataset__image_size": 50}, "dataset.image_size is 50", 64),
        ({"pretrain__mfm__crop": {"size": 40}}, "pretrain.mfm.crop.size is 40", 32),
    ],
)
def test_a_size_that_the_stride_does_not_divide_is_told_with_the_key(changes, key, nearest):
    message = complaint(check_sizes, demands(**changes))
    assert key in message
    assert message.endswith(f"stride 32; set it to {nearest}")


def test_other_strides_and_other_tasks_are_not_held_to_32():
    check_sizes(
        demands(
            dataset__image_size=56,
            model={"backbone": "vit_small_patch14_dinov2"},
            evaluate={"crop": 56, "resize": 56},
        )
    )
    check_sizes(
        demands(dataset__image_size=50, arms={"scratch": "scratch", "s": {"pretrain": "sup"}})
    )


def test_patches_that_do_not_divide_the_image_are_told():
    vit = "vit_tiny_patch16_224"  # which itself would leave out the rest
    at = {"dataset__image_size": 40, "evaluate": {"crop": 40, "resize": 40}}
    at |= {"arms": {"scratch": "scratch", "s": {"pretrain": "sup"}}}
    message = complaint(check_sizes, demands(model={"backbone": vit}, **at))
    assert message == (
        "dataset.image_size is 40, which vit_tiny_patch16_224's patches of 16 px don't "
        "divide; set it to 32, or model.options: {patch_size: ...} to a divisor"
    )
    check_sizes(demands(model={"backbone": vit, "options": {"patch_size": 8}}, **at))


def test_a_backbone_of_one_image_size_has_to_get_one():
    vit = {"model": {"backbone": "test_vit"}, "dataset__image_size": 64}
    check_sizes(demands(**vit, evaluate={"crop": 64, "resize": 70}))
    message = complaint(check_sizes, demands(**vit, evaluate={"crop": 48, "resize": 48}))
    for part in ("test_vit", "one image size", "dataset.image_size is 64", "evaluate.crop is 48"):
        assert part in message
    check_sizes(demands(evaluate={"crop": 64, "resize": 64}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"finetune__images_per_class": 33}, "finetune.images_per_class is 33"),
        ({}, None),
    ],
)
def test_linking_refuses_what_the_experiment_cannot_have(
    tmp_path, monkeypatch, capsys, changes, told
):
    settings = tmp_path / "c.json"
    settings.write_text(dumps(Dataset(name="own", source="generated")))
    words = ["mfm", "link", "--config", str(settings), "--folder", str(tmp_path / "own")]
    words += ["--demands", dumps(demands(**changes))]
    monkeypatch.setattr("sys.argv", words)
    if told is None:
        main()
        return
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_what_is_linked_is_checked_before_any_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = VALUES | {"finetune": {"batch": 8, "images_per_class": 33}}
    experiment = parse(Experiment, values, where="test")
    runs = Runs(experiment)
    # By names, before it is linked; then by what was read.
    message = complaint(preflight.check, runs)
    assert message.startswith("finetune.images_per_class is 33, but class checks has 32 training")
    assert "--forcerun" not in message
    folder = tmp_path / "data/own"
    link.link(experiment.dataset, folder)
    (folder / "config.json").write_text(dumps(experiment.dataset))
    message = complaint(preflight.check, runs)
    assert "finetune.images_per_class is 33, but class checks has 32" in message
    assert "--forcerun link_dataset" in message
    assert "--forcerun" not in complaint(partial(preflight.check, links_again=True), runs)
    (folder / "config.json").write_text(
        dumps(experiment.dataset.model_copy(update={"holdout_per_class": 2}))
    )
    assert "--forcerun" not in complaint(preflight.check, runs)  # will be linked otherwise


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"finetune__batch": 17},
            "only 16 training images with finetune.images_per_class 4; lower",
        ),
        (
            {"finetune": {"batch": 17, "fraction": 0.125}},
            "only 16 training images with finetune.fraction 0.125; lower",
        ),
        ({"pretrain__sup__batch": 129}, "pretrain.sup.batch is 129, but there are only 128"),
        (
            {"dataset__holdout_per_class": 30},
            "pretrain.mfm.batch is 64, but there are only 8 training images; lower it; (2) ",
        ),
        (
            {"dataset__holdout_per_class": 32},
            "dataset.holdout_per_class is 32, which leaves some classes no training image ('c",
        ),
        ({"pretrain__mfm__radius": 23}, "pretrain.mfm.radius is 23, which covers every frequency"),
        (
            {"pretrain__mfm__radius": 40, "pretrain__mfm__crop": {"size": 32}},
            "images of 32 px: give less than 22.6; null is 2.29",
        ),
        (
            {"variants": {"r": {"key": "pretrain.mfm.radius", "values": [60]}}},
            "pretrain.mfm.radius is 60, which covers every frequency of images of 32 px: give less "
            "than 22.6; null is 2.29 (with variants.r: 60)",
        ),
        ({"dataset__name": "x", "results": "data"}, "results: 'data': the linked datasets are"),
        (
            {"results": "src", "finetune__batch": 17},
            "such as results/mine; (2) finetune.batch is 17",  # all that is wrong at once
        ),
        (
            {"arms": {"scratch": "scratch", "w": {"weights": "resnet50"}}},
            "arms.w.weights: 'resnet50' is neither a file nor a weight name of torchvision, such "
            "as ResNet50_Weights.IMAGENET1K_V1 (did you mean 'ResNet50_Weights.IMAGENET1K_V1'?)",
        ),
    ],
)
def test_what_was_never_linked_is_checked_before_any_job(changes, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {**VALUES, "dataset": dict(VALUES["dataset"])}
    message = complaint(preflight.check, runs_of(values, **changes))
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"backbone": "convnext_atto"}, "dataset__image_size": 24}, "32 does"),
        (
            {"finetune__batch": 1},
            "finetune.batch: each process holds a single image at once, on which test_resnet's "
            "batch norm can't be trained at 32 px; raise finetune.batch (or micro_batch) to 2",
        ),
        ({"finetune__batch": 7, "finetune__micro_batch": 4}, "finetune.batch: each process"),
        ({"pretrain__sup__batch": 4, "pretrain__sup__ranks": 4}, "pretrain.sup.batch: each"),
        ({"model": {"options": {"drop_rate": 2}}}, "dropout probability has to be between 0 and 1"),
    ],
)
def test_what_a_network_can_not_train_on_is_told(changes, told):
    own = {"arms": {"scratch": "scratch", "s": {"pretrain": "sup"}}, "model": TINY}
    assert told in complaint(check_sizes, demands(**own | changes))


def test_one_image_at_once_is_enough_where_the_network_takes_it():
    check_sizes(demands(model=TINY, finetune__batch=1, dataset__image_size=64, arms=ARMS))
    check_sizes(demands(model={"backbone": "test_convnext"}, finetune__batch=1))


TINY = {"backbone": "test_resnet"}
RESNET18 = {"backbone": "resnet18"}
SLIM = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64], "output_stride": 16}
VIT = {"backbone": "test_vit"}  # patches of 16 px


@pytest.mark.parametrize(
    ("model", "size", "side"),
    [
        (RESNET18, 32, 1),
        (RESNET18, 96, 3),
        (RESNET18, 128, None),  # 4x4
        (RESNET18 | {"stem_stride": 2}, 32, 2),
        (RESNET18 | {"stem_stride": 1}, 32, None),
        (RESNET18 | {"options": SLIM}, 32, 2),
        (RESNET18 | {"options": SLIM, "stem_stride": 2}, 32, None),
        (VIT, 32, 2),
        (VIT | {"options": {"patch_size": 8}}, 32, None),
    ],
)
def test_a_last_map_of_few_positions_is_told_in_a_line(model, size, side):
    at = {"dataset__image_size": size, "evaluate": {"crop": size, "resize": size}}
    found = check_sizes(demands(model=model, **at))
    if side is None:
        assert found == []
        return
    (line,) = found
    assert line.startswith(f"pretrain.mfm: {model['backbone']}'s last map is {side}x{side} at ")
    assert f" {size} px" in line
    assert "\n" not in line
    # What to do, each with its key.
    for part in ("model.stem_stride", "model.options"):
        assert part in line
    enough = int(line.split("dataset.image_size to ")[1].split()[0])
    assert (
        check_sizes(
            demands(
                model=model,
                dataset__image_size=enough,
                evaluate={"crop": enough, "resize": enough},
            )
        )
        == []
    )


def test_few_positions_are_told_where_images_are_predicted_alone_and_with_the_variant():
    scratch = {"arms": {"scratch": "scratch", "s": {"pretrain": "sup"}}}
    assert check_sizes(demands(**scratch)) == []
    at = {"model": {"backbone": "resnet18", "stem_stride": 1}}
    variants = {"stem": {"key": "model.stem_stride", "values": [4]}}
    (line,) = check_sizes(demands(**at, variants=variants))
    assert "1x1 at 32 px" in line
    assert line.endswith("(with variants.stem: 4)")


def test_no_network_is_built_where_all_trainings_are_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = []
    monkeypatch.setattr(preflight, "check_sizes", lambda asked: built.append(asked) or ["few"])
    runs = Runs(parse(Experiment, VALUES, where="test"))
    assert "few" in preflight.remarks(runs)
    layout = runs.layout
    files = [layout.pretraining(*run, folder=folder) for folder, *run in runs.pretrainings]
    files += [layout.finetuning(*run, folder=folder) for folder, *run in runs.finetunings]
    files = [Path(run.weights) for run in files]
    for file in files:
        assert len(built) == 1
        file.parent.mkdir(parents=True)
        file.touch()
    assert "few" not in preflight.remarks(runs)
    assert len(built) == 1
    files[-1].unlink()
    assert "few" in preflight.remarks(runs)


def test_runs_of_another_network_are_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = [RESNET18 | {"stem_stride": stride, "options": SLIM} for stride in (4, 2)]
    ours, other = (
        Runs(parse(Experiment, VALUES | {"model": model}, where="test")) for model in networks
    )
    there = Path(ours.layout.evaluation_config())
    there.parent.mkdir(parents=True)
    there.write_text(dumps(evaluate_job(ours.experiment)))
    preflight.check(ours)
    message = complaint(preflight.check, other)
    assert "and this is resnet18 (not the standard one: stem of stride 2" in message
    assert message.endswith("set results to another folder")
    # A network that can't be made is told, and not that it is another one.
    values = VALUES | {"model": RESNET18 | {"options": {"no_such_option": 1}}}
    message = complaint(preflight.check, Runs(parse(Experiment, values, where="test")))
    assert "got an unexpected keyword argument 'no_such_option'" in message


@pytest.mark.parametrize(
    ("key", "value", "check", "told"),
    [
        (
            "finetune",
            {"images_per_class": 41, "batch": 4},
            lambda found: check_counts(found, SUMMARY),
            "finetune.images_per_class is 41, but class bee has 40 training images; lower it (with "
            "variants.mine: batch-4_images_per_class-41)",
        ),
        (
            "pretrain.mfm.batch",
            101,
            lambda found: check_counts(found, SUMMARY),
            "pretrain.mfm.batch is 101, but there are only 100 training images; lower it (with "
            "variants.mine: 101)",
        ),
        ("dataset.image_size", 50, check_sizes, "set it to 64 (with variants.mine: 50)"),
        ("evaluate", {"crop": 48, "resize": 48}, check_sizes, None),
        ("model.backbone", "resnet81", check_sizes, "(with variants.mine: resnet81)"),
        ("model.backbone", "test_vit", check_sizes, None),
        (
            "model",
            {"backbone": "vit_small_patch14_dinov2"},
            check_sizes,
            "stride 14; set it to 28 (with variants.mine: backbone-vit_small_patch14_dinov2)",
        ),
    ],
)
def test_what_a_variant_asks_is_checked_and_told_with_its_name(key, value, check, told):
    found = demands(variants={"mine": {"key": key, "values": [value]}})
    if told is None:
        check(found)
    else:
        assert complaint(check, found).endswith(told)


def test_what_a_variant_asks_as_well_is_not_asked_twice():
    studies = {"loss": {"key": "finetune.loss", "values": ["bce"]}}
    assert demands(variants=studies) == demands()
    studies["batch"] = {"key": "finetune.batch", "values": [4]}
    found = demands(variants=studies)
    assert [(each.key, each.batch, each.variant) for each in found.trainings] == [
        ("pretrain.mfm", 64, ""),
        ("pretrain.sup", 64, ""),
        ("finetune", 8, ""),
        ("finetune", 4, "variants.batch: 4"),
    ]
    assert len(found.sizes) == 1


def test_what_a_trial_asks_is_told_with_its_name():
    tuning = {"grid": {"batch": [4, 4000]}, "seeds": [7]}
    found = demands(dataset__holdout_per_class=5, tuning=tuning)
    assert complaint(check_counts, found, SUMMARY).endswith("(with tuning.grid: batch-4000)")


def test_sizes_are_checked_where_nothing_is_pretrained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"arms": {"scratch": "scratch"}, "model": {"backbone": "vit_tiny_patch16_224"}}
    values |= {"evaluate": {"resize": 64, "crop": 64}}
    with pytest.raises(UserError, match="made for one image size"):
        _remarks(values)


def test_a_pretraining_that_no_finetuning_starts_from_is_said():
    values = {
        "pretrain": {"mfm": {"task": "mfm", "seeds": [0, 1, 2]}},
        "arms": ARMS,
        "seeds": [0, 1],
    }
    assert any("no finetuning starts from [2]" in line for line in _remarks(values))
    values["seeds"] = [0, 1, 2]
    assert not any("no finetuning starts from" in line for line in _remarks(values))


def test_a_dataset_that_was_linked_otherwise_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"pretrain": {"mfm": {"task": "mfm"}}, "arms": ARMS}
    folder = Path("data/fashion-mnist")
    folder.mkdir(parents=True)
    (folder / "manifest.parquet").touch()
    (folder / "config.json").write_text(dumps(dataset_job(parse(Experiment, values, where="x"))))
    assert not any("linked again" in line for line in _remarks(values))
    values["dataset"] = {"holdout_per_class": 5}
    assert any("dataset.holdout_per_class" in line for line in _remarks(values))


ARMS = {"scratch": "scratch", "mfm": {"pretrain": "mfm"}}


def _remarks(values):
    return preflight.remarks(Runs(parse(Experiment, values, where="x")))
