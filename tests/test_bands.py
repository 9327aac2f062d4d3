"""Accuracy by frequency band, against a mask on the whole spectrum in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mfm.data import manifest
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, Seen
from mfm.errors import UserError
from mfm.evaluation import EVALUATIONS, Evaluation, bands, further_evaluations
from mfm.evaluation.classifier import Subject
from mfm.evaluation.job import EvaluateJob
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
    found = bands._band(given, radius=radius, low=low)
    expected = np.stack([reference(image, radius, low=low) for image in images])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    assert torch.equal(given, before)


def test_both_bands_add_up_to_the_image():
    # Of low contrast, so that nothing is clipped.
    images = 0.45 + 0.1 * torch.rand(3, 3, SIDE, SIDE, dtype=torch.float64)
    low, high = (bands._band(images, radius=5, low=low) for low in (True, False))
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


def subject(model, images, *, radii=None):
    evaluation = {"resize": SIDE, "crop": SIDE, "batch": 7}
    job = EvaluateJob(
        name="bands",
        dataset=Seen(name="fashion-mnist", image_size=32),
        model=Model(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        evaluation=evaluation,
        further={"radii": radii} if radii else None,
    )
    alone = Process(rank=0, world=1, device=torch.device("cpu"))
    return Subject(model=model, images=images, job=job, process=alone, workers=0)


def test_numbers_are_those_of_the_reference(images):
    model = Nearest(normalised(pixels(images["train"])))
    radii = [1.5, 3, 6]
    asked = bands.Settings(radii=radii)
    found = asked.measure(subject(model, images["val"], radii=radii))
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
        flat = one.predict(lambda seen: seen.mean(dim=(2, 3), keepdim=True).expand_as(seen))
        assert found[f"high_{2 * SIDE}"] == flat.top1


def test_no_radius_gives_the_clean_accuracy_above_it(images):
    one = subject(Nearest(normalised(pixels(images["train"]))), images["val"])
    assert bands.Settings(radii=[0.5]).measure(one)["high_0.5"] == one.predict().top1


def test_settings_are_below_evaluate():
    asked = Evaluation(bands={"radii": [2, 4.5]})
    assert further_evaluations(asked) == {"bands": bands.Settings(radii=[2, 4.5])}
    assert further_evaluations(Evaluation()) == {}
    names = [measure.name for measure in asked.bands.measures()]
    assert names == ["low_2", "low_4.5", "high_2", "high_4.5"]
    for wrong, told in (({"radii": []}, "at least 1"), ({"radii": [0]}, "greater than 0")):
        with pytest.raises(UserError, match=rf"bands\.radii.*{told}"):
            parse(Evaluation, {"bands": wrong}, where="test")
    assert "bands" in EVALUATIONS
