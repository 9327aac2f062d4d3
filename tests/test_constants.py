import types
import typing
from pathlib import Path

import finished
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mfm import objectives
from mfm.data.linking import manifest
from mfm.experiment import resolve
from mfm.experiment.layout import Layout
from mfm.experiment.settings import Experiment
from mfm.models.settings import Model
from mfm.objectives.constants import Constant, constant_losses
from mfm.objectives.pictures import fixed_images
from mfm.reporting import constants, pretraining_losses, table
from mfm.reporting.document import plain
from mfm.settings.section import dumps, parse

SIZE = 32
VIT = Model(backbone="vit_tiny_patch16_224", options={"patch_size": 8})
PIXELS = {
    "mfm": {}, "mfm paper": {"recipe": "paper", "radius": 3}, "sr": {}, "deblur": {}, "denoise": {},
    "autoencode": {}, "simmim": {}, "mae": {}, "mae pixels": {"norm_pixels": False},
}  # fmt: skip


def settings_of(name):
    values = {"pretrain": {"p": {"task": name.split()[0], **PIXELS[name]}}, "arms": {}}
    values["arms"] = {"scratch": "scratch", "p": {"pretrain": "p"}}
    return parse(Experiment, values, where="test").pretrain["p"]


def pictures_of(name):
    model = VIT if "mae" in name else Model(backbone="resnet18", stem_stride=1)
    return settings_of(name).pictures(model=model, size=SIZE)


def images(n, seed=0):
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def classes(of):
    """The classes of a union of unions, as tasks register them."""
    if typing.get_origin(of) is typing.Annotated:
        return classes(typing.get_args(of)[0])
    if isinstance(of, types.UnionType) or typing.get_origin(of) is typing.Union:
        return [each for part in typing.get_args(of) for each in classes(part)]
    return [of]


def test_these_are_all_tasks_that_predict_images():
    every = {each for each in classes(objectives.Pretraining) if each.predicts_images}
    assert every == {type(settings_of(name)) for name in PIXELS}


@pytest.mark.parametrize("name", PIXELS)
def test_the_right_answers_cost_nothing(name):
    pictures, few = pictures_of(name), images(3)
    seen = pictures.look(Constant(pictures.answers(few)), few)
    losses = {key for key in seen if key.startswith("loss_")}
    assert losses == {f"loss_{each}" for each in settings_of(name).losses}
    assert all(seen[each].item() < 1e-3 for each in losses)


@pytest.mark.parametrize("name", ["mfm paper", "simmim", "mae pixels", "sr"])
def test_the_lowest_constant_is_found(name):
    """Images that are alike but for a little noise are their mean; or nothing, where it is zero."""
    pictures = pictures_of(name)
    common, few = images(1, seed=1), images(4)
    alike = constant_losses(pictures, common + few / 100, examples=common + images(9, 2) / 100)
    zero = pictures.look(Constant(torch.zeros_like(pictures.answers(few)[:1])), common + few / 100)
    for loss, found in alike.items():
        assert found.predicted in ("mean", "median")
        assert found.loss < zero[f"loss_{loss}"].item() / 5


def test_noise_has_no_better_constant_than_zero():
    """High frequencies of unlike images: the mean of some says nothing of others."""
    pictures = pictures_of("mfm paper")
    found = constant_losses(pictures, images(8), examples=images(5, seed=1))
    assert found["low"].predicted == "zero"


def test_simclr_that_sees_no_difference_has_the_constant():
    from mfm.objectives.simclr.objective import nt_xent

    values = {"pretrain": {"p": {"task": "simclr", "batch": 8, "micro_batch": 8}}}
    values["arms"] = {"scratch": "scratch", "p": {"pretrain": "p"}}
    settings = parse(Experiment, values, where="test").pretrain["p"]
    same = torch.tensor([[1.0, 0.0]]).expand(16, 2)
    losses = nt_xent(same, same, first=0, temperature=settings.temperature)
    assert losses.mean().item() == pytest.approx(settings.constant_loss)


# losses.csv


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """An experiment with three pretrainings, of which one keeps snapshots of its first weights."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3)):
        for name in "ab":
            folder = tmp_path / "data/own" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    manifest.write(tmp_path / "data/own")
    values = {
        "results": str(tmp_path / "results"),
        "seeds": [0, 1],
        "dataset": {"name": "own", "source": "generated", "image_size": SIZE},
        "model": {"backbone": "resnet18"},
        "pretrain": {
            "m": {"task": "mfm", "reconstructions": 4, "epochs": 1, "seeds": [0, 1]},
            "c": {"task": "simclr", "epochs": 2, "batch": 4, "micro_batch": 4},
            "s": {"task": "supervised", "epochs": 1},
        },
        "arms": {
            "scratch": "scratch", **{name: {"pretrain": name} for name in "mcs"}
        },
    }  # fmt: skip
    ours = parse(Experiment, values, where="test")
    layout = Layout(ours.results)
    for name, seed in resolve.pretrainings(ours):
        finished.write_metrics(tmp_path / layout.pretraining(name, seed).folder, [1.8, 1.5])
    job = resolve.pretrain_job(ours, "m", 0)
    path = tmp_path / "data/own/manifest.parquet"
    model = job.training.build(job.inputs(job.images(path))).model
    run = tmp_path / layout.pretraining("m", 0).folder
    keep = job.observer(manifest_path=path, run=run, plan=types.SimpleNamespace(steps_per_epoch=10))
    for done in (0, 10):
        keep(model, done)
    return ours, path


def test_losses_are_beside_constants_of_the_same_images(trained):
    ours, path = trained
    layout = Layout(ours.results)
    configs = []
    for name, seed in resolve.compared_pretrainings(ours):
        configs.append(Path(layout.pretraining(name, seed).config))
        configs[-1].write_text(dumps(resolve.pretrain_job(ours, name, seed)))
    found = pretraining_losses.measure(configs, manifest_path=path)
    # Seed 1 of m kept nothing, as a run whose folder was thinned out.
    runs = found[["pretraining", "seed", "loss"]].drop_duplicates().to_numpy().tolist()
    assert runs == [["m", 0, "low"], ["m", 0, "high"], ["c", 0, "training"]]
    pictures = ours.pretrain["m"].pictures(model=ours.model, size=SIZE)
    few = fixed_images(4, manifest_path=path, size=SIZE)
    examples = fixed_images(10, manifest_path=path, size=SIZE, split="train")
    expected = constant_losses(pictures, few, examples=examples)
    for loss, known in expected.items():
        rows = found[found["loss"] == loss]
        assert rows["epoch"].tolist() == [0, 1]
        assert rows["constant"].tolist() == [known.loss] * 2
        assert set(rows["predicted"]) == {known.predicted}
    rows = found[found["pretraining"] == "c"]
    assert rows["value"].tolist() == [1.8, 1.5]
    assert rows["constant"].iloc[0] == pytest.approx(np.log(7))
    found.to_csv(Layout(ours.results).losses, index=False)
    again = pretraining_losses.of(ours)
    pd.testing.assert_frame_equal(again, found, check_dtype=False)


# The table


def warned(last, **more):
    losses = finished.kept_losses("masked", last).assign(**more)
    gains = {"scratch": (0.0,) * 3, "mfm": (1.0,) * 3}
    return finished.planted(gains, losses=losses)


def test_a_loss_near_its_constant_is_a_warning():
    (text,) = constants.warning(warned((2.0, 1.5)))
    said = "Hardly learned: the loss of masked from low frequencies is 95% of that of saying the "
    assert plain(text).startswith(f"{said}same of every image. There")
    assert "high" not in plain(text)
    (text,) = constants.warning(warned((2.2, 4.1)))
    assert "from low frequencies is 105% of" in plain(text)
    assert " and the loss of masked from high frequencies is 102% of" in plain(text)


def test_a_loss_below_its_constant_is_none():
    found = warned((1.9, 1.5))
    assert constants.warning(found) == []
    said = str(table.document(found))
    assert "Pretraining beside a constant" in said
    assert "Hardly learned" not in said
    assert "Hardly learned" in str(table.document(warned((2.2, 1.5))))
    assert constants.sections(finished.planted({"scratch": (0.0,) * 3, "mfm": (1.0,) * 3})) == []


def test_one_run_of_several_is_counted():
    both = pd.concat([finished.kept_losses("masked", last) for last in ((2.2, 1.5), (1.0, 1.5))])
    both["seed"] = [0] * 4 + [1] * 4
    gains = {"scratch": (0.0,) * 3, "mfm": (1.0,) * 3}
    (text,) = constants.warning(finished.planted(gains, losses=both))
    assert "is 76% of that of" in plain(text)
    assert "every image (more than 95% in 1 of 2 runs). There" in plain(text)
