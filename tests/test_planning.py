"""Planning: what `mfm init` drafts for folders as people have them."""

import io
import os
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import calls
import pytest
import torch
import trees
import yaml
from conftest import ROOT
from pydantic import BaseModel

from mfm.commands import init
from mfm.errors import UserError
from mfm.experiment import preflight
from mfm.experiment.resolve import evaluate_job, finetune_job, pretrain_job
from mfm.experiment.settings import load_yaml
from mfm.experiment.variants import Runs
from mfm.planning import budget, drafting, findings, machine, pictures, speeds, steps
from mfm.planning.cost import cost_of
from mfm.planning.draft import fitting_size
from mfm.planning.layouts import lay_out
from mfm.planning.machine import Machine
from mfm.planning.speeds import Speed, Speeds
from mfm.processes.ranks import Process

CPU = Machine(cores=2, memory=24 * 2**30, gpus=(), at_once=0, free=400 * 2**30)
GPU = Machine(cores=16, memory=128 * 2**30, gpus=("H100",), at_once=1, free=400 * 2**30)
SPEED = Speed(
    start=4.0,
    load=0.001,
    compute=0.004,
    checkpoint=0.05,
    evaluate=0.002,
    weights=5e6,
    memory=600,
    number_format="bf16",
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder that the workflow would be called in, on a machine that is always the same."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(drafting.machine, "look", lambda: CPU)
    monkeypatch.setattr(speeds, "measure", lambda draft, work: both(SPEED, draft.size))
    return folder


def drafted(make, *words, root=None):
    """The experiment of a tree, and what the terminal shows."""
    root = root or Path("..") / make.__name__
    if not root.exists():
        make(root)
    told = io.StringIO()
    with redirect_stdout(told):
        init.main([str(root), *words])
    return load_yaml(Path("mine.yaml")), told.getvalue()


SIZES = {"tiny": 32, "small_28": 32, "uneven": 32, "many_classes": 32, "mixed_modes": 32}
SIZES |= {"few_labels": 32, "odd_names": 32, "train_alone": 64, "grey": 64, "sixteen_bit": 64}
SIZES |= {"one_broken": 64, "copies": 64, "val_in_train": 64, "nested": 64, "with_rubbish": 64}
SIZES |= {
    "sixteen_bit_val": 64,
    "telephones": 64,
    "grey_arrays": 32,
    "four_channels": 32,
    "by_a_file": 64,
    "usual": 96,
    "without_val": 96,
    "two_classes": 96,
    "large_3000": 96,
}
TOLD = {
    "by_a_file": "as labels.csv says; 60 for evaluation (50% of each class, in whole groups",
    "sixteen_bit": "more than 8 bits a value",
    "sixteen_bit_val": "more than 8 bits a value: 11 (0 to 65535 become 0 to 255",
    "four_channels": "more than 8 bits a value",
    "mixed_modes": "transparency",
    "telephones": "note pictures that ask by EXIF to be turned will be (dataset.exif)",
    "uneven": "93.1% of the images of val are of class 'common': always answering it is right",
    "one_broken": "Unreadable images, left out: 2 (train/a/3.jpg: ",
    "copies": "also lie in another class of train: 1",
    "val_in_train": "val that are also in train: 5",
    "with_rubbish": "beside the class folders, left out",
    "few_labels": "400 without labels",
    "small_28": "with a side below 32 pixels",
}


@pytest.mark.parametrize("name", trees.TREES)
def test_a_folder_of_pictures_gives_an_experiment_that_the_workflow_takes(name):
    experiment, told = drafted(trees.TREES[name])
    assert experiment.dataset.image_size == SIZES[name]
    assert TOLD.get(name, "") in " ".join(told.split())
    assert len(told.splitlines()) < 32
    assert max(map(len, told.splitlines())) <= 100
    # As a dry run does: files, numbers and networks; nothing is to be said of the choices.
    runs = Runs(experiment)
    preflight.check(runs)
    assert preflight.remarks(runs) == []
    assert experiment.dataset.on_bad_image == ("skip" if name == "one_broken" else "error")
    assert Path("data", experiment.dataset.name, "left_out.csv").is_file()
    deep = dict.fromkeys(("sixteen_bit", "four_channels"), "percentile")
    assert experiment.dataset.scale == (deep | {"sixteen_bit_val": (0, 65535)}).get(name)
    assert experiment.dataset.exif == ("apply" if name == "telephones" else "ignore")
    assert experiment.model.channels == (4 if name == "four_channels" else 3)
    train = experiment.finetune.batch
    assert train & (train - 1) == 0
    assert experiment.seeds == experiment.pretrain["mfm"].seeds
    assert len(experiment.seeds) >= 6


@pytest.mark.parametrize("make", trees.REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_compared_on_is_one_line(make):
    with pytest.raises(UserError) as error:
        drafted(make)
    assert trees.REFUSED[make] in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("mine.yaml").exists()
    assert all(Path(file).is_file() for file in re.findall(r"\S+left_out\.csv", str(error.value)))


def keys_of(model: BaseModel) -> dict:
    """All keys of a section and of those in it, as a file would have them."""
    found = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name == "arms":
            found[name] = set(value)
        elif isinstance(value, BaseModel):
            found[name] = keys_of(value)
        elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
            found[name] = {key: keys_of(each) for key, each in value.items()}
        else:
            found[name] = None
    return found


def written_keys(values: dict, like: dict) -> dict:
    found = {}
    for name, value in values.items():
        inner = like.get(name)
        if isinstance(inner, dict):
            found[name] = written_keys(value, inner)
        else:
            found[name] = inner if inner is None else set(value)
    return found


def test_the_file_is_complete_and_each_key_is_described():
    experiment, _ = drafted(trees.usual)
    text = Path("mine.yaml").read_text()
    expected = keys_of(experiment)
    assert written_keys(yaml.safe_load(text), expected) == expected
    lines = text.splitlines()
    keys = [number for number, line in enumerate(lines) if line.startswith("  ") and ":" in line]
    described = [n for n in keys if lines[n - 1].lstrip().startswith("#")]
    assert len(described) > len(keys) / 2  # those of the finetuning stand at the pretraining
    assert all(len(line) <= 100 or experiment.dataset.source in line for line in lines)
    assert "Here: the images' short side is 120 px (median), and there is time for less." in text
    assert "mfm run mine.yaml" in text
    assert "$schema" not in text  # an editor would look for a file that isn't there


def test_an_editor_is_told_of_the_schema_that_lies_beside_the_file():
    Path("config.schema.json").touch()
    drafted(trees.tiny)
    head = Path("mine.yaml").read_text().splitlines()[0]
    assert head == "# yaml-language-server: $schema=config.schema.json"


def test_of_many_channels_the_first_and_the_last_are_told():
    _, told = drafted(trees.four_channels)
    assert " in the first of 4 channels, " in " ".join(told.split())
    text = " ".join(Path("mine.yaml").read_text().replace("#", " ").split())
    assert "Here: of each channel, the mean of these three; std alike." in text


def test_a_file_that_is_there_stays():
    Path("mine.yaml").write_text("x")
    with pytest.raises(UserError, match=r"mine\.yaml is there, and stays as it is: give --out"):
        drafted(trees.tiny)
    assert Path("mine.yaml").read_text() == "x"
    with pytest.raises(UserError, match=r"is to end with \.yaml"):
        drafted(trees.tiny, "--out", "mine")


def test_results_and_names_that_are_taken_are_left():
    Path("results/mine").mkdir(parents=True)
    Path("data/tiny").mkdir(parents=True)
    Path("data/tiny/source.txt").write_text("/elsewhere\n")
    experiment, _ = drafted(trees.tiny)
    assert (experiment.results, experiment.dataset.name) == ("results/mine-2", "tiny-2")


def test_files_are_read_once(monkeypatch):
    drafted(trees.tiny)
    assert Path("data/tiny/.scan.parquet").exists()
    Path("mine.yaml").unlink()
    # A file read again would end here.
    monkeypatch.setattr("mfm.data.pictures.headers._read_open", None)
    drafted(trees.tiny)


def draft_of(make, tmp_path, machine=CPU):
    make(tmp_path / "pictures")
    (tmp_path / "work").mkdir()
    found = pictures.look(lay_out(tmp_path / "pictures"), "own", tmp_path / "work")
    return drafting.first_draft(found, machine, "results/mine")


def both(speed, size):
    return Speeds(size=size, pretrain=speed, finetune=speed)


def test_a_budget_cuts_in_the_order_that_is_told(tmp_path):
    draft = draft_of(trees.usual, tmp_path)
    measured = both(SPEED, draft.size)
    whole = cost_of(draft, measured).seconds
    assert (draft.pretrainings, draft.size, draft.length) == (10, 96, 1.0)
    seen = []
    for share in (1.0, 0.75, 0.4, 0.2, 0.12, 0.08):
        fitted = budget.fit(draft, measured, share * whole)
        assert cost_of(fitted, measured).seconds <= share * whole
        seen.append((fitted.pretrainings, fitted.size, fitted.length))
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == (10, 96, 1.0)
    assert 6 <= seen[1][0] < 10
    assert seen[1][1:] == (96, 1.0)
    assert seen[2][:2] == (6, 64)
    with pytest.raises(UserError, match=r"--time: the shortest .*: give --time \d+m or more"):
        budget.fit(draft, measured, 10)
    shortest = budget.told(draft, replace(draft, pretrainings=3, size=64, length=0.25))
    assert shortest == [
        "3 pretrainings and not 10",
        "images of 64 px and not 96",
        "25% of the epochs",
    ]


def test_the_time_is_an_option():
    experiment, told = drafted(trees.usual, "--time", "20m")
    assert "cut         for --time: 6 pretrainings and not 10" in told
    assert experiment.dataset.image_size == 64
    for wrong in ("soon", "0m", "5"):
        with pytest.raises(SystemExit):
            init.main(["x", "--time", wrong])


def test_other_programs_on_the_machine_are_told(monkeypatch):
    monkeypatch.setattr(
        speeds, "measure", lambda draft, work: replace(both(SPEED, draft.size), others=1.3)
    )
    said = "other programs kept 1.3 of 2 cores busy while steps were timed"
    _, told = drafted(trees.usual)
    assert f"note {said}" in " ".join(told.split())
    with pytest.raises(UserError, match=said):
        drafted(trees.usual, "--time", "1m", "--out", "other.yaml")


def test_work_of_others_is_that_which_is_not_ones_own(monkeypatch):
    whole, busy, own = machine._times()
    assert 0 < own < busy
    times = iter([(whole, busy, own), (whole + 10, busy + 15, own + 2)])
    monkeypatch.setattr(machine, "_times", lambda: next(times))
    assert machine.Others().cores == pytest.approx(1.3)


def test_what_is_found_follows_from_the_evaluation_images():
    deviations = [findings.deviation(val) for val in (50, 500, 5000, 500_000)]
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] == pytest.approx(findings.RETRAINED, abs=0.01)
    assert [findings.pretrainings(val) for val in (50, 500_000)] == [10, 6]


def test_a_gpu_has_time_for_more(tmp_path):
    draft = draft_of(trees.usual, tmp_path, GPU)
    assert draft.size == 128
    model = draft.experiment.model
    assert (model.backbone, model.options) == ("resnet18", {})
    assert fitting_size(3000, gpu=True) == 224
    many = replace(draft, pictures=replace(draft.pictures, images={"train": 10**6, "val": 9}))
    assert many.experiment.model.backbone == "resnet50"
    assert many.batch("pretrain") == 256


def test_a_full_gpu_holds_fewer_images_at_once(tmp_path, monkeypatch):
    draft = draft_of(trees.usual, tmp_path, GPU)
    many = replace(draft, pictures=replace(draft.pictures, images={"train": 10**6, "val": 9}))

    def measure(tried, work):
        if tried.experiment.pretrain["mfm"].micro_batch > 64:
            raise UserError("the GPU's memory is full: lower micro_batch")
        return both(SPEED, tried.size)

    monkeypatch.setattr(speeds, "measure", measure)
    planned = drafting.plan(many, tmp_path, seconds=None)
    recipe = planned.draft.experiment.pretrain["mfm"]
    assert (recipe.batch, recipe.micro_batch) == (256, 64)
    written, _ = drafting.rendered(planned, Path("mine.yaml"))
    assert "Here: a step takes 600 MB of the GPU's memory." in " ".join(written.split())


def test_dali_is_taken_where_it_is_faster(tmp_path, monkeypatch):
    draft = draft_of(trees.large_3000, tmp_path)
    fast = replace(SPEED, load=SPEED.load / 4, compute=SPEED.compute / 2)
    for found, expected in ((fast, "dali"), (SPEED, "torchvision")):
        monkeypatch.setattr(
            speeds,
            "measure",
            lambda tried, work, found=found: both(
                found if tried.loader == "dali" else SPEED, tried.size
            ),
        )
        assert drafting.plan(draft, tmp_path, seconds=None).draft.loader == expected


def test_equal_cost_is_counted_as_the_workflow_counts_it(tmp_path):
    draft = draft_of(trees.usual, tmp_path)
    cost = cost_of(draft, both(SPEED, draft.size))
    image, experiment = SPEED.load + SPEED.compute, draft.experiment
    pretrained = 120 // experiment.pretrain["mfm"].batch * experiment.pretrain["mfm"].batch
    seconds = pretrained * experiment.pretrain["mfm"].epochs * image
    checkpoints = SPEED.checkpoint * experiment.pretrain["mfm"].epochs
    assert cost.stages["pretraining"] == pytest.approx((seconds + checkpoints + 5) * 10 / 2)
    assert cost.stages["finetuning"] > 10 / 2 * seconds  # that of scratch-long alone


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_steps_are_the_trainings_own(stage, tmp_path):
    experiment = draft_of(trees.tiny, tmp_path).experiment
    job = {
        "pretrain": lambda: pretrain_job(experiment, "mfm", 0),
        "finetune": lambda: finetune_job(experiment, "scratch", 0),
    }[stage]()
    found = steps.measure(
        job,
        evaluate_job(experiment) if stage == "finetune" else None,
        manifest_path=tmp_path / "work/manifest.parquet",
        seconds=0.05,
        workers=0,
        process=Process(rank=0, world=1, device=torch.device("cpu")),
    )
    assert found.load > 0
    assert found.compute > 0
    assert (found.evaluate > 0) == (stage == "finetune")
    assert found.weights > 1e6
    assert found.busy > 0.05


@pytest.mark.processes
def test_with_its_measurement_it_is_a_file_that_snakemake_takes(here, monkeypatch):
    monkeypatch.undo()
    os.chdir(here)
    monkeypatch.setattr(speeds, "SECONDS", 0.1)
    trees.odd_names(here / "my pictures")
    _, told = drafted(None, "--time", "8h", root=here / "my pictures")
    assert "steps timed here just now" in " ".join(told.split())
    words = ("--dry-run", "--cores", "all", "--snakefile", ROOT / "Snakefile")
    done = calls.snakemake(*words, "--configfile", "mine.yaml", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mfm: error" not in done.stderr
