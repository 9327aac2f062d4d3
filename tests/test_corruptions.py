"""Corruptions, against float64, Pillow and torchvision; and what draws are keyed by."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from test_bands import ALONE, CLASSES, Nearest, images, normalised, pixels, subject
from torch.nn import functional as F

from mfm.data.linking.manifest import Images
from mfm.evaluation import corruptions
from mfm.evaluation.corrupt import CORRUPTIONS, corrupt
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.numerics.draws import Stream, hashes
from mfm.numerics.noise import normals
from mfm.processes.ranks import Process

__all__ = ["images"]  # a fixture

EVERY = [(kind, severity) for kind in CORRUPTIONS for severity in (1, 3, 5)]


def photographs(n, side):
    """Smooth images with noise [n, 3, side, side], float64 and whole 255ths."""
    draw = np.random.default_rng(1)
    coarse = torch.from_numpy(draw.random((n, 3, 4, 4)))
    smooth = F.interpolate(coarse, (side, side), mode="bicubic").numpy()
    return (255 * (smooth + draw.normal(0, 0.05, smooth.shape)).clip(0, 1)).round() / 255


def by_pillow(image, change):
    """An image [3, H, W] in [0, 1], changed as Pillow's image."""
    seen = Image.fromarray((image * 255).round().astype(np.uint8).transpose(1, 2, 0))
    return np.asarray(change(seen), np.float64).transpose(2, 0, 1) / 255


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def pixelated(image, share):
    side = image.size[0]
    small = image.resize((int(side * share),) * 2, Image.Resampling.BOX)
    return small.resize((side, side), Image.Resampling.BOX)


def blurred(image, sigma):
    """float64: every pixel a weighted sum, the image mirrored around its outermost pixels."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (1, 2):
        margins = [(reach, reach) if axis == each else (0, 0) for each in range(3)]
        wide = np.pad(image, margins, mode="reflect")
        image = np.apply_along_axis(np.convolve, axis, wide, weights / weights.sum(), mode="valid")
    return image


def reference(image, row, *, kind, strength):
    """One image [3, H, W] in [0, 1], float64, with the published definition of each kind."""
    side = image.shape[-1]
    if kind == "noise":
        key = hashes(seed=0, epoch=0, stream=Stream.CORRUPTION, indices=np.array([row]))[:, 0]
        drawn = normals(key, n=image.size, device=torch.device("cpu"))[0].numpy()
        noise = drawn.reshape(side, side, 3).transpose(2, 0, 1).astype(np.float64)
        return (image + strength * noise).clip(0, 1)
    if kind == "blur":
        return blurred(image, strength * side)
    if kind == "contrast":
        grey = (np.array([0.2989, 0.587, 0.114])[:, None, None] * image).sum(axis=0).mean()
        return ((image - grey) * strength + grey).clip(0, 1)
    if kind == "brightness":
        return (image * (1 + 2 * strength)).clip(0, 1)
    if kind == "jpeg":
        return by_pillow(image, lambda seen: as_jpeg(seen, round(strength)))
    return by_pillow(image, lambda seen: pixelated(seen, strength))


# Pillow rounds to whole 255ths, of the pixelation after each of two steps.
TOLERANCES = {"pixelation": 1.01 / 255}


@pytest.mark.parametrize("side", [32, 61])
@pytest.mark.parametrize(("kind", "severity"), EVERY)
def test_a_corruption_is_the_published_one(kind, severity, side):
    before = photographs(2, side)
    given, rows = torch.from_numpy(before.copy()), np.array([3, 90])
    found = corrupt(given, rows, kind=kind, severity=severity).numpy()
    strength = CORRUPTIONS[kind].strength(severity, side)
    expected = [
        reference(image, row, kind=kind, strength=strength)
        for image, row in zip(before, rows, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=TOLERANCES.get(kind, 1e-6))
    np.testing.assert_array_equal(given.numpy(), before)
    assert abs(found - before).max() > 0.01, "it does something"


def test_strengths_are_the_published_ones_at_their_sizes_and_lie_between_them():
    for corruption in CORRUPTIONS.values():
        for severity in range(1, 6):
            at = [corruption.strength(severity, side) for side in (8, 32, 64, 96, 160, 224, 384)]
            small, large = corruption.small[severity - 1], corruption.large[severity - 1]
            assert at[0] == at[1] == small
            assert at[-1] == at[-2] == large
            between = at if small <= large else at[::-1]
            assert between == sorted(between)
    # In pixels: CIFAR-10-C's and ImageNet-C's blur.
    blur = CORRUPTIONS["blur"]
    assert [32 * blur.strength(s, 32) for s in range(1, 6)] == [0.4, 0.6, 0.7, 0.8, 1]
    assert [224 * blur.strength(s, 224) for s in range(1, 6)] == pytest.approx([1, 2, 3, 4, 6])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(kind):
    given = torch.from_numpy(photographs(5, 32)).float()
    given, rows = given.to(memory_format=torch.channels_last), np.array([4, 0, 9, 2, 7])
    whole = corrupt(given, rows, kind=kind, severity=3)
    for order in ([2], [4, 1], [3, 0, 2, 1, 4]):
        part = corrupt(given[order], rows[order], kind=kind, severity=3)
        torch.testing.assert_close(part, whole[order], atol=1e-6, rtol=0)
    if kind == "noise":
        other = corrupt(given[:1].expand(2, -1, -1, -1), np.array([1, 2]), kind=kind, severity=1)
        assert not torch.equal(other[0], other[1])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_backbone(Model(backbone="test_resnet"), classes=CLASSES)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severity_0_gives_the_clean_predictions_to_the_bit(kind, network, images):
    one = subject(network, images["val"])
    clean = one.predict()
    found = one.predict(lambda seen, rows: corrupt(seen, rows, kind=kind, severity=0))
    for name, values in vars(clean).items():
        np.testing.assert_array_equal(getattr(found, name), values)
    worse = one.predict(lambda seen, rows: corrupt(seen, rows, kind=kind, severity=5))
    assert not np.array_equal(worse.losses, clean.losses)


def asked(**more):
    return corruptions.Settings(kinds=["noise", "contrast"], severities=[1, 5], **more)


def nearest(images):
    return Nearest(normalised(pixels(images["train"])))


def test_measures_are_those_of_predictions_and_their_means(images):
    one, settings = subject(nearest(images), images["val"]), asked()
    found = settings.measure(one)
    assert list(found) == [measure.name for measure in settings.measures()]
    shown = [measure.name for measure in settings.measures() if measure.in_table]
    assert shown == ["clean", "corrupted", "noise", "contrast"]
    assert found["clean"] == one.predict().top1
    for kind in settings.kinds:
        for severity in settings.severities:
            changed = one.predict(
                lambda seen, rows, kind=kind, severity=severity: corrupt(
                    seen, rows, kind=kind, severity=severity
                )
            )
            assert found[f"{kind}_{severity}"] == changed.top1
        single = [found[f"{kind}_{severity}"] for severity in (1, 5)]
        assert found[kind] == pytest.approx(np.mean(single))
    assert found["corrupted"] == pytest.approx((found["noise"] + found["contrast"]) / 2)
    assert len(set(found.values())) > 2


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_the_batch_size_has_no_influence(batch, images):
    model = nearest(images)
    first, second = (subject(model, images["val"], batch=each) for each in (7, batch))
    assert asked(images=15).measure(first) == asked(images=15).measure(second)


def test_two_ranks_measure_the_same_as_one(monkeypatch, images):
    model, settings = nearest(images), asked(images=15)
    expected = settings.measure(subject(model, images["val"]))
    # What each rank counts, and then both with what the other one has.
    counted = []
    gather = "mfm.evaluation.classifier.gather_objects"
    monkeypatch.setattr(gather, lambda mine, process: counted.append(mine) or [mine])
    ranks = [Process(rank=rank, world=2, device=ALONE.device) for rank in (0, 1)]
    for process in ranks:
        settings.measure(subject(model, images["val"], process=process))
    monkeypatch.setattr(gather, lambda mine, process: counted)
    for process in ranks:
        assert settings.measure(subject(model, images["val"], process=process)) == expected
    assert counted[0] != counted[1]


def test_some_images_are_drawn_by_seed_and_keep_their_rows(images):
    one = subject(nearest(images), images["val"])
    few, more = (one.drawn(n).images for n in (5, 12))
    assert isinstance(few, Images)
    assert set(few.rows) < set(more.rows) < set(images["val"].rows)
    assert list(few.rows) != list(images["val"].rows[:5])
    assert list(few.rows) == sorted(few.rows)
    for n in (None, len(images["val"]), 1000):
        assert one.drawn(n) is one
    seen = []
    one.drawn(5).predict(lambda given, rows: seen.extend(rows) or given)
    assert seen[:5] == list(few.rows)
    assert set(seen) == set(few.rows), "a last batch is filled up"
