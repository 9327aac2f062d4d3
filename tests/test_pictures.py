import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from mfm.data.linking import manifest
from mfm.errors import UserError
from mfm.experiment.jobs import PretrainJob
from mfm.objectives.mfm.bands import completed
from mfm.objectives.mfm.pictures import MfmPictures
from mfm.objectives.mfm.task import MaskedFrequencyModeling
from mfm.objectives.picture_files import LIST, read_captions
from mfm.objectives.pictures import (
    SNAPSHOTS,
    Snapshots,
    load_snapshots,
)
from mfm.reporting.pictures import draw_pictures
from mfm.settings.section import parse

SIZE = 32


@pytest.fixture
def task():
    return MaskedFrequencyModeling(recipe="upstream", radius=3.0)


def create_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
    ).train()


def snapshots(run, task, images, *, epochs, steps_per_epoch):
    return Snapshots(
        run,
        pictures=MfmPictures(task),
        images=images,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
    )


def test_a_few_steps_are_kept_and_the_model_is_left_alone(task, tmp_path):
    images = torch.rand(2, 3, 16, 16)
    model = create_model()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    (tmp_path / SNAPSHOTS).mkdir()
    (tmp_path / SNAPSHOTS / "step000000007.safetensors").write_bytes(b"of a run before")
    keep = snapshots(tmp_path, task, images, epochs=4, steps_per_epoch=25)
    for done in range(101):
        keep(model, done)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    found = load_snapshots(tmp_path)
    assert list(found) == [0, 0.04, 0.12, 0.4, 1.2, 4]
    model.eval()
    for name, low in (("low", True), ("high", False)):
        keep_low = torch.tensor([low, low])
        prediction = model(task.corrupt(images, keep_low))
        assert torch.equal(found[1.2][f"prediction_{name}"], prediction.half())
        expected = task.image_losses(prediction, images, keep_low).mean().item()
        assert found[1.2][f"loss_{name}"].item() == pytest.approx(expected, rel=1e-6)


def test_a_resumed_run_writes_what_it_lost(task, tmp_path):
    keep = snapshots(tmp_path, task, torch.rand(1, 3, 16, 16), epochs=1, steps_per_epoch=10)
    for done in (0, 1):
        keep(create_model(), done)
    (tmp_path / SNAPSHOTS / "step000000001.safetensors").unlink()
    keep(create_model(), 1)
    assert list(load_snapshots(tmp_path)) == [0, 0.1]


def test_a_damaged_one_is_named(tmp_path):
    path = tmp_path / SNAPSHOTS / "step1.safetensors"
    path.parent.mkdir()
    safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"step1\.safetensors is damaged"):
        load_snapshots(tmp_path)


def test_what_is_predicted_completes_the_inputs_band(task):
    images = torch.rand(2, 3, 16, 16)
    target = task.target(images)
    for low in (True, False):
        whole = completed(task, images, target, low=low)
        torch.testing.assert_close(whole, target, rtol=0, atol=1e-5)
        # What a model predicts in the band that it was given is in no loss, and not shown.
        given = completed(task, images, torch.zeros_like(target), low=low)
        torch.testing.assert_close(
            completed(task, images, target + given, low=low), target, rtol=0, atol=1e-5
        )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Manifest of a few images of two classes."""
    folder = tmp_path_factory.mktemp("data")
    draws = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    manifest.write(folder)
    return folder / "manifest.parquet"


def finish(run, images, **training):
    """A pretraining's checkpoint and, of its first weights, snapshots; and its job."""
    values = {"task": "mfm", "radius": 3, "reconstructions": 5, **training}
    job = parse(
        PretrainJob,
        {
            "name": "p",
            "dataset": {"name": "own", "image_size": SIZE},
            "split": "train",
            "model": {"backbone": "resnet18"},
            "training": values,
        },
        where="test",
    )
    model = job.training.build(job.inputs(job.images(images))).model
    keep = job.observer(manifest_path=images, run=run, plan=SimpleNamespace(steps_per_epoch=10))
    if keep is not None:
        for done in (0, 10):
            keep(model, done)
    torch.save({"model": model.state_dict()}, run / "checkpoint.pt")
    return job


def draw(job, run, images):
    folder = run / "pictures"
    draw_pictures(job, manifest_path=images, checkpoint=run / "checkpoint.pt", folder=folder)
    return folder


@pytest.mark.parametrize("recipe", ["upstream", "paper"])
def test_a_folder_of_pictures_lists_them(images, tmp_path, recipe):
    job = finish(tmp_path, images, recipe=recipe, epochs=1)
    folder = draw(job, tmp_path, images)
    captions = read_captions(folder)
    assert set(captions) == {"epochs", "reconstructions", "spectra"}
    assert all(captions.values())
    pngs = [f"{name}.png" for name in captions]
    assert {path.name for path in folder.iterdir()} == {LIST, *pngs}
    if recipe == "upstream":
        before = {name: (folder / name).read_bytes() for name in pngs}
        assert {name: (draw(job, tmp_path, images) / name).read_bytes() for name in pngs} == before


def test_snapshots_of_other_images_are_refused(images, tmp_path):
    finish(tmp_path, images)
    (tmp_path / "other").mkdir()
    other = finish(tmp_path / "other", images, reconstructions=3)
    with pytest.raises(UserError, match="of other images"):
        draw(other, tmp_path, images)


def test_without_snapshots_the_figure_says_so(images, tmp_path):
    job = finish(tmp_path, images)
    for path in (tmp_path / SNAPSHOTS).iterdir():
        path.unlink()
    folder = draw(job, tmp_path, images)
    assert json.loads((folder / LIST).read_text()).keys() == read_captions(folder).keys()


def test_a_pretraining_that_shows_nothing_keeps_nothing(images, tmp_path):
    assert finish(tmp_path, images, reconstructions=0).training.pictured == 0
    assert not (tmp_path / SNAPSHOTS).exists()
