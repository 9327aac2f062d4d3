"""Accuracy by frequency, against masks and waves on the whole spectrum in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mfm.data.linking import manifest
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, Seen
from mfm.errors import UserError
from mfm.evaluation import EVALUATIONS, Evaluation, bands, further_evaluations, waves
from mfm.evaluation.classifier import Subject
from mfm.evaluation.job import EvaluateJob
from mfm.experiment.settings import Experiment
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.processes.ranks import Process
from mfm.settings.section import parse

SIDE, CLASSES = 32, 4


def reference(image, radius, *, low):
    """One band of an image [3, H, W] in [0, 1]: float64, by a mask on the shifted spectrum."""
    image = np.asarray(image, np.float64)
    rows, columns = np.ogrid[: image.shape[1], : image.shape[2]]
    squares = (rows - image.shape[1] // 2) ** 2 + (columns - image.shape[2] // 2) ** 2
    spectrum = np.fft.fftshift(np.fft.fft2(image), axes=(1, 2))
    spectrum[:, (squares >= radius**2) if low else (squares < radius**2)] = 0
    kept = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2))).real
    if not low:
        kept = kept + image.mean(axis=(1, 2), keepdims=True)
    return kept.clip(0, 1)


@given(
    radius=st.floats(0.5, 30),
    height=st.integers(2, 17),
    width=st.integers(2, 17),
    low=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_a_band_is_a_mask_on_the_spectrum(radius, height, width, low, seed):
    images = np.random.default_rng(seed).random((2, 3, height, width))
    given = torch.from_numpy(images)
    before = given.clone()
    found = bands._band(given, np.arange(2), radius=radius, low=low)
    expected = np.stack([reference(image, radius, low=low) for image in images])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    assert torch.equal(given, before)


def test_both_bands_add_up_to_the_image():
    # Of low contrast, so that nothing is clipped.
    images = 0.45 + 0.1 * torch.rand(3, 3, SIDE, SIDE, dtype=torch.float64)
    low, high = (bands._band(images, np.arange(3), radius=5, low=low) for low in (True, False))
    torch.testing.assert_close(low + high - images.mean(dim=(2, 3), keepdim=True), images)


class Nearest(nn.Module):
    """Scores a class by how near an image is to an example of it, in all pixels."""

    def __init__(self, examples):
        super().__init__()
        self.register_buffer("examples", examples)

    def forward(self, images):
        return -(images[:, None] - self.examples).square().mean(dim=(2, 3, 4))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Smooth images of their class with noise at high frequencies."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for label in range(CLASSES):
        coarse = draw.integers(60, 200, (4, 4, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for split, count in (("train", 1), ("val", 6)):
            (folder / split / f"class{label}").mkdir(parents=True)
            for number in range(count):
                noise = draw.normal(0, 0 if split == "train" else 45, smooth.shape)
                noisy = (smooth + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / split / f"class{label}/{number}.png")
    manifest.write(folder)
    path = folder / "manifest.parquet"
    return {split: manifest.load(path, split) for split in ("train", "val")}


def pixels(images):
    """[n, 3, H, W] in [0, 1]."""
    read = [np.asarray(Image.open(images.path(k)), np.float64) for k in range(len(images))]
    return np.stack(read).transpose(0, 3, 1, 2) / 255


def normalised(images):
    mean, std = (np.array(each).reshape(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.from_numpy((images - mean) / std).float()


ALONE = Process(rank=0, world=1, device=torch.device("cpu"))


def subject(model, images, *, batch=7, process=ALONE):
    evaluation = {"resize": SIDE, "crop": SIDE, "batch": batch}
    job = EvaluateJob(
        name="bands",
        dataset=Seen(name="fashion-mnist", image_size=32),
        model=Model(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        evaluation=evaluation,
    )
    return Subject(model=model, images=images, job=job, process=process, workers=0)


def test_numbers_are_those_of_the_reference(images):
    model = Nearest(normalised(pixels(images["train"])))
    radii = [1.5, 3, 6]
    asked = bands.Settings(radii=radii)
    found = asked.measure(subject(model, images["val"]))
    assert list(found) == [measure.name for measure in asked.measures()]
    for band in ("low", "high"):
        for radius in radii:
            seen = np.stack(
                [reference(image, radius, low=band == "low") for image in pixels(images["val"])]
            )
            with torch.inference_mode():
                predicted = model(normalised(seen)).argmax(dim=1).numpy()
            expected = 100 * (predicted == images["val"].labels).mean()
            assert found[f"{band}_{radius:g}"] == pytest.approx(expected), (band, radius)
        means = np.mean([found[f"{band}_{radius:g}"] for radius in radii])
        assert found[band] == pytest.approx(means)
    assert found["clean"] == subject(model, images["val"]).predict().top1
    assert len(set(found.values())) > 2, "bands differ here"
    assert found["low_6"] > found["high_6"], "the classes are smooth"


def test_a_radius_that_covers_everything_gives_the_clean_accuracy(images):
    torch.manual_seed(0)
    nearest = Nearest(normalised(pixels(images["train"])))
    network = create_backbone(Model(backbone="test_resnet"), classes=CLASSES)
    for model in (nearest, network):
        one = subject(model, images["val"])
        found = bands.Settings(radii=[2 * SIDE]).measure(one)
        clean = one.predict()
        assert found[f"low_{2 * SIDE}"] == clean.top1
        # Nothing is left above it but the mean colour.
        flat = one.predict(lambda seen, rows: seen.mean(dim=(2, 3), keepdim=True).expand_as(seen))
        assert found[f"high_{2 * SIDE}"] == flat.top1


def test_no_radius_gives_the_clean_accuracy_above_it(images):
    one = subject(Nearest(normalised(pixels(images["train"]))), images["val"])
    assert bands.Settings(radii=[0.5]).measure(one)["high_0.5"] == one.predict().top1


@pytest.mark.parametrize("frequency", [(0, 0), (0, 3), (5, 0), (3, 4), (-3, 4), (8, 8), (8, 2)])
def test_a_wave_has_one_frequency_and_its_norm(frequency):
    grey = torch.full((4, 3, 16, 16), 0.5, dtype=torch.float64)
    added = waves.add_wave(grey, np.arange(4), frequency=frequency, norm=1.5) - grey
    assert added.norm(dim=(2, 3)).numpy() == pytest.approx(1.5)
    row, column = np.mgrid[:16, :16]
    wave = np.cos(2 * np.pi * (frequency[0] * row + frequency[1] * column) / 16)
    np.testing.assert_allclose(
        added.abs()[0, 0], 1.5 * abs(wave) / np.linalg.norm(wave), atol=1e-12
    )
    power = abs(np.fft.fft2(added[0, 0])) > 1e-6
    places = {tuple(place % 16) for place in (np.array(frequency), -np.array(frequency))}
    assert {tuple(place) for place in np.argwhere(power)} == places
    clipped = waves.add_wave(grey, np.arange(4), frequency=frequency, norm=100)
    assert (clipped.min(), clipped.max()) in ((0, 1), (0, 0), (1, 1))


def test_signs_are_of_the_image_the_channel_and_the_frequency():
    grey, rows = torch.full((300, 5, 4, 4), 0.5, dtype=torch.float64), np.arange(7, 307)
    signs = {}
    for frequency in ((0, 1), (1, 0)):
        added = waves.add_wave(grey, rows, frequency=frequency, norm=0.1) - grey
        signs[frequency] = added[:, :, 0, 0].sign().numpy()
        assert abs(signs[frequency].mean()) < 0.15
        few = waves.add_wave(grey[:2], rows[[5, 3]], frequency=frequency, norm=0.1) - grey[:2]
        np.testing.assert_array_equal(few[:, :, 0, 0].sign(), signs[frequency][[5, 3]])
    one, two = signs.values()
    pairs = [(one[:, 0], one[:, 1]), (one[:, 1], one[:, 2]), (one[:, 0], two[:, 0])]
    assert all(abs((a * b).mean()) < 0.2 for a, b in pairs)


def test_a_heat_map_has_each_wave_once_and_its_mirror(images):
    asked = bands.Settings(radii=[4], waves={"norm": 4, "frequencies": [2, 0]})
    found = asked.measure(subject(Nearest(normalised(pixels(images["train"]))), images["val"]))
    assert list(found) == [measure.name for measure in asked.measures()]
    single = [name for name in found if name.startswith("wave_")]
    assert single == ["wave_0_0", "wave_0_2", "wave_2_0", "wave_2_2", "wave_-2_2"]
    assert found["wave"] == pytest.approx(np.mean([found[name] for name in single]))
    cells = asked.figures()["waves"].cells
    assert len(cells) == 9
    assert cells[-2, -2] == cells[2, 2] == "wave_2_2"
    assert cells[2, -2] == cells[-2, 2] == "wave_-2_2"
    assert cells[0, -2] == "wave_0_2"
    assert "waves" not in bands.Settings(radii=[4]).figures()


def test_settings_are_below_evaluate():
    asked = Evaluation(bands={"radii": [2, 4.5]})
    assert further_evaluations(asked) == {"bands": bands.Settings(radii=[2, 4.5])}
    assert further_evaluations(Evaluation()) == {}
    names = [measure.name for measure in asked.bands.measures()]
    assert names == ["clean", "low", "high", "low_2", "low_4.5", "high_2", "high_4.5"]
    wrongs = {"at least 1": [], "greater than 0": [0], "each value once": [2, 2]}
    for told, radii in wrongs.items():
        with pytest.raises(UserError, match=rf"bands\.radii.*{told}"):
            parse(Evaluation, {"bands": {"radii": radii}}, where="test")
    asked = {"bands": {"radii": [2], "waves": {"norm": 4, "frequencies": [0, 17]}}}
    parse(Evaluation, {**asked, "resize": 34, "crop": 34}, where="test")
    with pytest.raises(UserError, match=r"waves\.frequencies: 17 is above 16, .* images of 32 px"):
        parse(Experiment, {"evaluate": asked}, where="test")
    assert "bands" in EVALUATIONS
