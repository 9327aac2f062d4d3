"""Restorations against references in float64, written from their definitions."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from test_training import dataset
from torch import nn

from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Step
from mfm.errors import UserError
from mfm.experiment.jobs import PretrainJob
from mfm.models.settings import Model
from mfm.numerics.draws import Stream, hashes, uniforms
from mfm.numerics.noise import normals
from mfm.objectives.picture_files import read_captions
from mfm.objectives.pictures import load_snapshots
from mfm.objectives.restoration.degradations import Keys
from mfm.objectives.restoration.objective import Restoration
from mfm.reporting.pictures import draw_pictures
from mfm.settings.section import parse
from mfm.training.task import Inputs

__all__ = ["dataset"]  # a fixture

TASKS = ("sr", "deblur", "denoise", "autoencode")
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
KEYS = Keys(seed=3, epoch=5, rows=np.array([4, 0, 11, 7, 2]))


def job(task, *, size=32, **training):
    return parse(
        PretrainJob,
        {
            "name": "p",
            "dataset": {"name": "own", "image_size": size},
            "split": "train",
            "model": {"backbone": "resnet10t"},
            "training": {"task": task, "batch": 4, "epochs": 1, **training},
        },
        where="test",
    )


def degraded(task, images, keys=KEYS, **settings):
    """What the network is given, in [0, 1] again."""
    restoration = Restoration(job(task, **settings).training.degradation(images.shape[-1]))
    return restoration.corrupt(images, keys) * STD + MEAN


def photographs(n=5, size=32, seed=0):
    """Images in [0, 1] that touch both ends, laid out as those of a loader."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    fine = nn.functional.interpolate(coarse, size=(size, size)) * 1.6 - 0.3
    fine += 0.2 * torch.randn(n, 3, size, size, generator=generator)
    return fine.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def close(ours, reference, atol=2e-6):
    torch.testing.assert_close(ours, reference.float(), rtol=0, atol=atol)


# References


def bicubic(to, points):
    """Keys' cubic convolution with a = -0.75, centres aligned, ends repeated: [to, points]."""
    matrix = np.zeros((to, points))
    for i in range(to):
        place = (i + 0.5) * points / to - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            x = abs(place - tap)
            weight = (
                1.25 * x**3 - 2.25 * x**2 + 1 if x <= 1 else -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            )
            matrix[i, min(max(tap, 0), points - 1)] += weight
    return torch.from_numpy(matrix)


@pytest.mark.parametrize(("size", "factor"), [(32, 8), (64, 8), (28, 7), (33, 3)])
def test_super_resolution_is_bicubic_down_and_up(size, factor):
    images = photographs(size=size)
    down = bicubic(size // factor, size)
    coarse = (down @ images.double() @ down.T).clamp(0, 1)
    up = bicubic(size, size // factor)
    whole = (up @ coarse @ up.T).clamp(0, 1)
    close(degraded("sr", images, size=size, factor=factor), whole)


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        (28, [3] * 8),
        (64, [3, 3, 3, 5, 5, 5, 7, 7]),
        (224, [7, 9, 11, 13, 15, 17, 19, 21]),
    ],
)
def test_deblurring_is_a_convolution_with_a_part_of_a_gaussian(size, sides):
    settings = job("deblur", size=size).training
    assert settings.sides(size) == sides
    settings.check_size(size)
    images = photographs(n=2, size=size)
    keys = Keys(seed=3, epoch=5, rows=np.array([4, 0]))
    draws = uniforms(seed=3, epoch=5, stream=Stream.BLUR, indices=keys.rows)[:, 0]
    ours = degraded("deblur", images, keys, size=size)
    for image, blurred, draw in zip(images.double().numpy(), ours, draws, strict=True):
        half = sides[int(draw * 8)] // 2
        offsets = np.arange(-half, half + 1)
        kernel = np.exp(-np.add.outer(offsets**2, offsets**2) / (2 * (5 * size / 224) ** 2))
        kernel /= kernel.sum()
        wide = np.pad(image, ((0, 0), (half, half), (half, half)), mode="reflect")
        expected = sum(
            kernel[y, x] * wide[:, y : y + size, x : x + size]
            for y, x in itertools.product(range(2 * half + 1), repeat=2)
        )
        close(blurred, torch.from_numpy(expected))


def test_every_kernel_is_drawn_equally_often():
    rows = np.arange(4000)
    draws = uniforms(seed=0, epoch=0, stream=Stream.BLUR, indices=rows)[:, 0]
    counts = np.bincount((draws * 8).astype(int), minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_denoising_adds_normal_noise_to_each_pixel_and_channel():
    images = torch.full((5, 3, 32, 32), 0.5)
    noisy = degraded("denoise", images)
    noise = (noisy - 0.5).numpy() * 255 / 75
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert noise.std() == pytest.approx(1, rel=0.02)
    assert abs(np.corrcoef(noise.transpose(1, 0, 2, 3).reshape(3, -1)) - np.eye(3)).max() < 0.05
    assert noisy.min() < -0.1, "clamped, which the official code doesn't"
    assert noisy.max() > 1.1


def test_autoencoding_degrades_nothing():
    images = photographs()
    close(degraded("autoencode", images), images)


MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15


def splitmix(state, k):
    z = (state + k * GOLDEN) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def test_normal_numbers_are_quantiles_at_splitmix64():
    keys = hashes(seed=1, epoch=2, stream=Stream.NOISE, indices=np.array([0, 5]))[:, 0]
    found = normals(keys, n=10, device=torch.device("cpu"))
    for key, numbers in zip(keys.tolist(), found, strict=True):
        words = [splitmix(key, k) for k in (1, 2, 3)]
        lanes = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)][:10]
        expected = stats.norm.ppf((np.array(lanes) + 0.5) / 2**16)
        np.testing.assert_allclose(numbers, expected, rtol=2e-4)
    many = normals(keys, n=200_000, device=torch.device("cpu")).double()
    assert stats.kstest(many.flatten().numpy(), "norm").pvalue > 1e-3


# What inputs and losses depend on


@pytest.mark.parametrize("task", TASKS)
def test_an_input_depends_on_seed_epoch_and_image_alone(task):
    images = photographs(size=64)
    whole = degraded(task, images)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    for chosen in ([2], [3, 1], [4, 3, 2, 1, 0]):
        part = degraded(task, images[chosen], Keys(seed=3, epoch=5, rows=KEYS.rows[chosen]))
        close(part, whole[chosen], atol=1e-6)
    for keys in (
        Keys(seed=4, epoch=5, rows=KEYS.rows),
        Keys(seed=3, epoch=6, rows=KEYS.rows),
        Keys(seed=3, epoch=5, rows=KEYS.rows + 20),
    ):
        # Five kernels of three sides: other draws are other inputs.
        same = torch.allclose(degraded(task, images, keys), whole, atol=1e-5)
        assert same == (task in ("sr", "autoencode"))


STEP = Step(epoch=1, number=0, positions=np.arange(4), micro_batches=(np.arange(4),))


def loss_of(built, images, *positions):
    labels = torch.zeros(len(positions), dtype=torch.int64)
    batch = Batch(images[list(positions)], labels, torch.tensor(positions))
    return built.objective(built.model, batch, STEP)


def built_of(task):
    inputs = Inputs(
        model=Model(backbone="resnet10t"), size=32, classes=0, rows=np.arange(4) + 10, seed=2
    )
    built = job(task).training.build(inputs)
    built.model.eval()
    return built


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_the_mean_distance_of_spectra_however_a_step_is_cut(task):
    images = (photographs(n=4) * 255).to(torch.uint8)
    built = built_of(task)
    whole = loss_of(built, images, 0, 1, 2, 3)
    parts = loss_of(built, images, 0) + loss_of(built, images, 3, 1) + loss_of(built, images, 2)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)

    pixels = images.float() / 255
    keys = Keys(seed=2, epoch=1, rows=np.arange(4) + 10)
    given = (degraded(task, pixels, keys) - MEAN) / STD
    predicted = built.model(given).detach().double().numpy()
    target = ((pixels - MEAN) / STD).double().numpy()
    spectra = np.fft.fft2(predicted - target, norm="ortho")
    expected = np.sqrt(spectra.real**2 + spectra.imag**2 + 1e-12).mean()
    assert whole.item() == pytest.approx(expected, rel=1e-4)


# Settings


@pytest.mark.parametrize(
    ("task", "size", "settings", "said"),
    [
        ("sr", 28, {}, "factor is 8, which doesn't divide the 28 px of its images: give one of 2"),
        ("deblur", 28, {"kernels": [7, 57]}, "kernels has 57, which is too wide for images of 28"),
    ],
)
def test_what_does_not_fit_the_images_is_said(task, size, settings, said):
    with pytest.raises(UserError, match=said):
        job(task, size=size, **settings).training.check_size(size)


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("deblur", {"kernels": [4]}, "give odd numbers"),
        ("denoise", {"sigma": 0}, "sigma"),
        ("autoencode", {"sigma": 3}, "unknown key"),
    ],
)
def test_bad_settings_are_refused(task, settings, said):
    with pytest.raises(UserError, match=said):
        job(task, **settings)


# Pictures


@pytest.mark.parametrize("task", TASKS)
def test_reconstructions_are_drawn(task, dataset, tmp_path):
    run = job(task, reconstructions=3)
    model = run.training.build(run.inputs(run.images(dataset))).model
    keep = run.observer(
        manifest_path=dataset, run=tmp_path, plan=SimpleNamespace(steps_per_epoch=4)
    )
    for done in (0, 4):
        keep(model, done)
    torch.save({"model": model.state_dict()}, tmp_path / "checkpoint.pt")
    folder = tmp_path / "pictures"
    draw_pictures(run, manifest_path=dataset, checkpoint=tmp_path / "checkpoint.pt", folder=folder)
    assert set(read_captions(folder)) == {"epochs", "reconstructions"}
    assert (folder / "reconstructions.png").stat().st_size > 5000
    kept = load_snapshots(tmp_path)
    assert list(kept) == [0, 1]
    assert {f"loss_{name}" for name in run.training.losses} | {"prediction"} == set(kept[1])
