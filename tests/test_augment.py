import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from timm.data import create_transform
from torchvision.transforms import v2

from mfm.data.loading.augment import (
    KeyedRandAugment,
    Mix,
    erase,
    plan_crops,
    plan_mix,
    swap_neighbours,
)
from mfm.data.settings import Crop, RandAugment

examples = settings(deadline=None, max_examples=60)
sides = st.integers(1, 40) | st.sampled_from([224, 375, 500, 4000, 65_535])
areas = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple)
aspects = st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted).map(tuple)
seeds = st.integers(0, 2**31)

UPSTREAM_PRETRAIN = Crop(area=(0.2, 1.0), aspect=(0.8, 1.25))
UPSTREAM_FINETUNE = Crop(area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))


def plan(crop, width, height, n=1, seed=0, epoch=0, first=0):
    """Crops of n images of one size."""
    return plan_crops(
        crop,
        seed=seed,
        epoch=epoch,
        indices=np.arange(first, first + n),
        widths=np.full(n, width),
        heights=np.full(n, height),
    )


def columns(crops):
    return {name: getattr(crops, name).tolist() for name in crops.__dataclass_fields__}


# Crops


@given(width=sides, height=sides, area=areas, aspect=aspects, seed=seeds)
@examples
def test_crops_lie_inside_the_image(width, height, area, aspect, seed):
    crops = plan(Crop(area=area, aspect=aspect), width, height, n=20, seed=seed)
    assert (crops.left >= 0).all()
    assert (crops.top >= 0).all()
    assert (crops.width >= 1).all()
    assert (crops.height >= 1).all()
    assert (crops.left + crops.width <= width).all()
    assert (crops.top + crops.height <= height).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 65_535), (65_535, 1), (2, 1)])
@pytest.mark.parametrize("crop", [UPSTREAM_PRETRAIN, UPSTREAM_FINETUNE])
def test_crops_of_extreme_images_lie_inside(width, height, crop):
    crops = plan(crop, width, height, n=100)
    assert (np.minimum(crops.left, crops.top) >= 0).all()
    assert (np.minimum(crops.width, crops.height) >= 1).all()
    assert (crops.left + crops.width <= width).all()
    assert (crops.top + crops.height <= height).all()


large = st.integers(200, 4000)
fractions = st.floats(0.3, 1)


@given(
    width=large,
    height=large,
    aspect=st.tuples(st.floats(0.2, 1), st.floats(1, 5)),
    upper=fractions,
    lower=fractions,
    seed=seeds,
)
@examples
def test_area_and_aspect_keep_their_ranges(width, height, aspect, upper, lower, seed):
    # every try fits where the widest and the highest crop of the largest area do
    most = upper * min(1, width / height / aspect[1], height / width * aspect[0])
    area = (lower * most, most)
    crops = plan(Crop(area=area, aspect=aspect), width, height, n=20, seed=seed)
    w, h = crops.width, crops.height
    # each side is rounded to a whole pixel: half a pixel either way
    assert ((w + 0.5) * (h + 0.5) >= area[0] * width * height).all()
    assert ((w - 0.5) * (h - 0.5) <= area[1] * width * height).all()
    assert ((w + 0.5) / (h - 0.5) >= aspect[0]).all()
    assert ((w - 0.5) / (h + 0.5) <= aspect[1]).all()


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (1000, 10, (494, 0, 12, 10)),  # too wide: 10 * 1.25 rounds to 12
        (10, 1000, (0, 494, 10, 12)),
        (101, 30, (31, 0, 38, 30)),
    ],
)
def test_the_largest_central_crop_where_no_try_fits(width, height, box):
    crop = Crop(area=(0.9, 1.0), aspect=(0.8, 1.25))
    crops = plan(crop, width, height, n=50)
    found = set(zip(crops.left, crops.top, crops.width, crops.height, strict=True))
    assert found == {box}


def test_the_whole_image_is_its_only_full_square_crop():
    crop = Crop(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)
    assert columns(plan(crop, 32, 32, n=3)) == {
        "left": [0] * 3,
        "top": [0] * 3,
        "width": [32] * 3,
        "height": [32] * 3,
        "flip": [False] * 3,
    }


@pytest.mark.parametrize("crop", [UPSTREAM_PRETRAIN, UPSTREAM_FINETUNE])
@pytest.mark.parametrize(("width", "height"), [(500, 375), (28, 28), (90, 400)])
def test_crops_are_distributed_as_torchvisions(crop, width, height):
    n, m = 20_000, 2_000
    crops = plan(crop, width, height, n=n)
    transform = v2.RandomResizedCrop(32, scale=crop.area, ratio=crop.aspect)
    image = Image.new("L", (width, height))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [transform.make_params([image]) for _ in range(m)]
    their = {name: np.array([t[name] for t in theirs]) for name in theirs[0]}
    pairs = {
        "area": (crops.width * crops.height, their["width"] * their["height"]),
        "aspect": (np.log(crops.width / crops.height), np.log(their["width"] / their["height"])),
        "left": (crops.left, their["left"]),
        "top": (crops.top, their["top"]),
    }
    for ours, reference in pairs.values():
        error = (ours.var() / n + reference.var() / m) ** 0.5
        assert abs(ours.mean() - reference.mean()) <= 4 * error
        assert ours.std() == pytest.approx(reference.std(), rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_flips_have_their_share(share):
    n = 20_000
    flips = plan(Crop(flip=share), 32, 32, n=n).flip
    assert flips.dtype == np.bool_
    assert abs(flips.mean() - share) <= 4 * (share * (1 - share) / n) ** 0.5


@given(data=st.data(), seed=seeds, epoch=st.integers(0, 500))
@examples
def test_a_crop_depends_on_its_image_alone(data, seed, epoch):
    n = data.draw(st.integers(1, 12))
    widths = np.array(data.draw(st.lists(sides, min_size=n, max_size=n)))
    heights = np.array(data.draw(st.lists(sides, min_size=n, max_size=n)))
    indices = np.array(data.draw(st.lists(st.integers(0, 2**31), min_size=n, max_size=n)))
    chosen = np.array(data.draw(st.lists(st.integers(0, n - 1))), np.int64)

    def crops(rows):
        plan = plan_crops(
            UPSTREAM_FINETUNE,
            seed=seed,
            epoch=epoch,
            indices=indices[rows],
            widths=widths[rows],
            heights=heights[rows],
        )
        return columns(plan)

    whole = crops(np.arange(n))
    assert crops(chosen) == {name: [v[i] for i in chosen] for name, v in whole.items()}


def test_crops_differ_by_seed_epoch_and_image():
    plans = [
        plan(UPSTREAM_FINETUNE, 500, 375, n=8),
        plan(UPSTREAM_FINETUNE, 500, 375, n=8, seed=1),
        plan(UPSTREAM_FINETUNE, 500, 375, n=8, epoch=1),
        plan(UPSTREAM_FINETUNE, 500, 375, n=8, first=8),
    ]
    assert len({tuple(crops.left.tolist() + crops.top.tolist()) for crops in plans}) == 4


# RandAugment


def randaugment(seed=0, ops=2, magnitude=6):
    return KeyedRandAugment(
        RandAugment(ops=ops, magnitude=magnitude), interpolation="bilinear", seed=seed
    )


def picture(side=24):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def augmented(augment, keys):
    return [np.asarray(augment(picture(), key)).tobytes() for key in keys]


def test_the_same_key_gives_the_same_image():
    keys = randaugment().keys(epoch=3, indices=np.arange(40))
    forwards = augmented(randaugment(), keys)
    backwards = augmented(randaugment(), keys[::-1])[::-1]
    assert forwards == backwards
    assert len(set(forwards)) > 20


def test_keys_depend_on_seed_epoch_and_image_alone():
    indices = np.arange(100)
    keys = randaugment().keys(epoch=3, indices=indices)
    assert keys[50:] + keys[:50] == randaugment().keys(epoch=3, indices=np.roll(indices, 50))
    others = [
        *randaugment(seed=1).keys(epoch=3, indices=indices),
        *randaugment().keys(epoch=4, indices=indices),
    ]
    assert len({*keys, *others}) == 300
    assert all(0 <= key < 2**63 for key in keys)


def test_randaugment_is_torchvisions():
    reference = v2.RandAugment(2, 6, 10, interpolation=v2.InterpolationMode.BILINEAR)
    with torch.random.fork_rng(devices=[]):
        for key in range(30):
            torch.manual_seed(key)
            expected = np.asarray(reference(picture()))
            np.testing.assert_array_equal(np.asarray(randaugment()(picture(), key)), expected)


def timms(**changes):
    settings = {"magnitude": 9, "magnitude_std": 0.5, "increasing": True} | changes
    return KeyedRandAugment(
        RandAugment(kind="timm", **settings), interpolation="bicubic", seed=0, size=48
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("rand-m9-mstd0.5-inc1", {}),
        ("rand-m6-n3", {"magnitude": 6, "ops": 3, "magnitude_std": 0.0, "increasing": False}),
    ],
)
def test_timms_randaugment_is_that_of_its_training_transform(text, settings):
    # what the paper's code calls
    whole = create_transform(48, is_training=True, auto_augment=text, interpolation="bicubic")
    [reference] = [part for part in whole.transforms if type(part).__name__ == "RandAugment"]
    ours, image = timms(**settings), picture(48)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    seen = set()
    for key in range(40):
        random.seed(key)
        np.random.seed([key, 0])  # noqa: NPY002
        expected = np.asarray(reference(image))
        random.seed(99)
        np.testing.assert_array_equal(np.asarray(ours(image, key)), expected)
        seen.add(expected.tobytes())
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    assert len(seen) > 20


def test_timms_largest_magnitude_keeps_no_bit():
    # Pillow used to return a black image and raises an error today.
    augment = timms(magnitude=10, magnitude_std=0.0, ops=1)
    black = np.zeros((48, 48, 3), np.uint8).tobytes()
    assert black in {np.asarray(augment(picture(48), key)).tobytes() for key in range(300)}


@pytest.mark.parametrize("augment", [randaugment(ops=10), timms(ops=10)])
def test_randaugment_leaves_the_global_generators_alone(augment):
    image = picture()
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    for key in (0, 1, 2**63 - 1):
        augment(image, key)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002
    assert np.array_equal(np.asarray(image), np.asarray(picture()))


# Mixing


def boxes():
    edges = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
    return st.tuples(edges, edges).map(lambda e: (e[0][0], e[1][0], e[0][1], e[1][1]))


shares = st.floats(0, 1)
mixes = st.builds(Mix, share=shares, box=st.none() | boxes())
batches = st.integers(1, 4).map(lambda pairs: 2 * pairs)


def batch(n, size):
    """Image i is i everywhere, and so is its target's class."""
    values = torch.arange(n, dtype=torch.float64)
    return values.view(-1, 1, 1, 1).expand(n, 3, size, size), torch.eye(n, dtype=torch.float64)


def partner(i):
    return i + 1 if i % 2 == 0 else i - 1


def test_neighbours_swap():
    assert swap_neighbours(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    x = torch.rand(8, 3, 2)
    assert torch.equal(swap_neighbours(swap_neighbours(x)), x)


@given(share=shares, n=batches, size=st.integers(1, 9))
@examples
def test_mixup_weighs_images_and_targets_alike(share, n, size):
    images, targets = batch(n, size)
    mix = Mix(share=share, box=None)
    mixed, mixed_targets = mix.images(images), mix.targets(targets, size=size)
    for i in range(n):
        expected = share * i + (1 - share) * partner(i)
        assert mixed[i].numpy() == pytest.approx(expected, abs=1e-12)
        weights = dict(enumerate(mixed_targets[i].tolist()))
        assert weights.pop(i) == pytest.approx(share)
        assert weights.pop(partner(i)) == pytest.approx(1 - share)
        assert not any(weights.values())


@given(box=boxes(), n=batches, size=st.integers(1, 33))
@examples
def test_cutmix_targets_are_the_shares_of_pixels(box, n, size):
    images, targets = batch(n, size)
    mix = Mix(share=0.5, box=box)
    mixed, mixed_targets = mix.images(images), mix.targets(targets, size=size)
    assert mixed.shape == images.shape
    for i in range(n):
        own = (mixed[i] == i).double().mean().item()
        pasted = (mixed[i] == partner(i)).double().mean().item()
        assert own + pasted == pytest.approx(1)
        assert mixed_targets[i, i].item() == pytest.approx(own)
        assert mixed_targets[i, partner(i)].item() == pytest.approx(pasted)


def test_cutmix_pastes_the_box_from_the_partner_in_place():
    images = torch.rand(2, 3, 8, 8)
    mixed = Mix(share=0.5, box=(0.25, 0.5, 0.75, 1.0)).images(images)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[4:8, 2:6] = True  # top 0.5 to bottom 1, left 0.25 to right 0.75
    assert torch.equal(mixed, torch.where(inside, images.flip(0), images))


@given(mix=mixes, n=batches, size=st.integers(1, 9))
@examples
def test_mixed_targets_stay_distributions(mix, n, size):
    targets = torch.rand(n, 5, dtype=torch.float64).softmax(dim=1)
    mixed = mix.targets(targets, size=size)
    assert (mixed >= 0).all()
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(n, dtype=torch.float64))


@given(mix=mixes, pairs=st.integers(1, 5), size=st.integers(1, 9), data=st.data())
@examples
def test_even_parts_mix_as_the_whole(mix, pairs, size, data):
    cut = 2 * data.draw(st.integers(0, pairs))
    images, targets = torch.rand(2 * pairs, 3, size, size), torch.rand(2 * pairs, 4)
    before = images.clone()
    parts = [part for part in (slice(0, cut), slice(cut, None)) if len(images[part])]
    assert torch.equal(torch.cat([mix.images(images[part]) for part in parts]), mix.images(images))
    assert torch.equal(
        torch.cat([mix.targets(targets[part], size=size) for part in parts]),
        mix.targets(targets, size=size),
    )
    assert torch.equal(images, before)


def steps(n, *, mixup, cutmix, seed=0, epoch=0):
    return [
        plan_mix(mixup=mixup, cutmix=cutmix, seed=seed, epoch=epoch, step=step) for step in range(n)
    ]


def test_no_mixing_where_both_are_off():
    assert plan_mix(mixup=0, cutmix=0, seed=0, epoch=0, step=0) is None


def test_only_what_is_on_is_used():
    assert all(mix.box is None for mix in steps(50, mixup=0.1, cutmix=0))
    assert all(mix.box is not None for mix in steps(50, mixup=0, cutmix=1.0))


def test_half_of_the_steps_use_each_where_both_are_on():
    n = 4000
    cut = sum(mix.box is not None for mix in steps(n, mixup=0.1, cutmix=1.0))
    assert abs(cut / n - 0.5) <= 4 * 0.5 / n**0.5


def test_a_mix_depends_on_seed_epoch_and_step_alone():
    forwards = steps(20, mixup=0.1, cutmix=1.0, seed=3, epoch=7)
    backwards = [
        plan_mix(mixup=0.1, cutmix=1.0, seed=3, epoch=7, step=step) for step in range(20)[::-1]
    ]
    assert forwards == backwards[::-1]
    others = [
        *steps(20, mixup=0.1, cutmix=1.0, seed=4, epoch=7),
        *steps(20, mixup=0.1, cutmix=1.0, seed=3, epoch=8),
    ]
    assert len({(mix.share, mix.box) for mix in forwards + others}) == 60


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_shares_follow_the_beta_distribution(alpha, kind):
    alphas = {"mixup": 0.0, "cutmix": 0.0, kind: alpha}
    drawn = [mix.share for mix in steps(4000, **alphas)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_published_alpha_mixes_with_the_beta_mean_and_variance():
    drawn = np.array([mix.share for mix in steps(4000, mixup=0.1, cutmix=0)])
    beta = stats.beta(0.1, 0.1)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert abs(drawn.mean() - 0.5) <= 4 * beta.std() / 4000**0.5
    assert drawn.var() == pytest.approx(beta.var(), rel=0.05)


def test_boxes_are_squares_of_area_one_less_the_share_clipped_at_the_border():
    for mix in steps(500, mixup=0, cutmix=1.0):
        left, top, right, bottom = mix.box
        side = (1 - mix.share) ** 0.5
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1
        for low, high in ((left, right), (top, bottom)):
            clipped = low == 0 or high == 1
            assert high - low <= side + 1e-12 if clipped else high - low == pytest.approx(side)
            assert high - low >= side / 2 - 1e-12  # the centre lies inside the image


def test_the_mean_pasted_area_is_that_of_uniform_centres():
    # A side s = sqrt(1 - share) with a uniform centre keeps s - s^2 / 4 of its length inside, and
    # s^2 is uniform for alpha = 1: E (s - s^2 / 4)^2 = 1/2 - 1/5 + 1/48.
    n = 4000
    edges = np.array([mix.box for mix in steps(n, mixup=0, cutmix=1.0)])
    pasted = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    assert abs(pasted.mean() - (1 / 2 - 1 / 5 + 1 / 48)) <= 4 * pasted.std() / n**0.5


# erasing


def erased(probability=0.5, *, seed=0, epoch=0, rows=range(200), size=32):
    images = torch.full((len(rows), 3, size, size), 7.0)
    erase(images, probability=probability, seed=seed, epoch=epoch, rows=np.array(rows))
    return images


def test_erased_rectangles_have_timms_areas_and_aspects_and_hold_noise():
    images = erased(1.0, rows=range(400))
    areas, aspects, noise = [], [], []
    for image in images:
        hit = image != 7.0
        rows, columns = hit.any(0).any(1).nonzero()[:, 0], hit.any(0).any(0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        inside = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inside != 7.0).all()
        assert hit.sum() == 3 * height * width
        areas.append(height * width / 32**2)
        aspects.append(width / height)
        noise.append(inside.flatten())
    assert 0.01 < min(areas) < 0.05 < 0.28 < max(areas) < 0.36  # rounding to pixels of 32
    assert 0.2 < min(aspects) < 0.4 < 2.5 < max(aspects) < 5
    assert np.mean(areas) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    values = torch.cat(noise)
    assert stats.kstest(values[:20000].numpy(), "norm").pvalue > 1e-3


def test_the_share_of_erased_images_is_the_probability():
    hits = (erased(0.25, rows=range(2000)) != 7.0).flatten(1).any(1)
    assert hits.float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert not (erased(0.0) != 7.0).any()


def test_erasing_depends_on_seed_epoch_and_image_alone():
    whole = erased(rows=range(20))
    assert torch.equal(whole[7:12], erased(rows=range(7, 12)))
    for other in (erased(rows=range(20), seed=1), erased(rows=range(20), epoch=1)):
        assert not torch.equal(whole, other)
