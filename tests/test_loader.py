import dataclasses
import errno
import multiprocessing
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import InterpolationMode

from mfm.data.linking import manifest
from mfm.data.loading.augment import KeyedRandAugment, plan_crops
from mfm.data.loading.batches import EvalBatches, TrainBatches, to_float
from mfm.data.loading.decoding import Decoder
from mfm.data.loading.loader import Loader
from mfm.data.loading.order import Plan
from mfm.data.pictures.reading import Reading
from mfm.data.settings import Crop, RandAugment
from mfm.errors import UserError
from mfm.processes.pool import map_in_processes

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
CROP = Crop(area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))
RAND_AUGMENT = RandAugment(ops=2, magnitude=6, bins=10)
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
# wide, high, square, one pixel, extreme, and odd differences on both sides of .5
SIZES = [(48, 36), (36, 48), (32, 32), (33, 50), (51, 34), (1, 1), (9, 100), (101, 10)]


def pixels(width, height, channels=3):
    """A coarse picture and noise: neither flips nor shifts go unseen."""
    coarse = RANDOM.integers(0, 256, (3, 3, channels), dtype=np.uint8)
    coarse = np.kron(coarse, np.ones((-(-height // 3), -(-width // 3), 1), np.uint8))
    noise = RANDOM.integers(0, 32, (height, width, channels), dtype=np.uint8)
    return coarse[:height, :width] // 2 + noise


def picture(width, height):
    return Image.fromarray(pixels(width, height))


def scanned(folder):
    path = folder / "manifest.parquet"
    manifest.write(folder, reading=Reading(scale=(0, 255)))  # as Pillow clips it
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A manifest of PNGs: 8 sizes in each of 2 classes, for training and for validation."""
    folder = tmp_path_factory.mktemp("images")
    for split in ("train", "val"):
        for name in ("one", "two"):
            (folder / split / name).mkdir(parents=True)
            for i, size in enumerate(SIZES):
                picture(*size).save(folder / split / name / f"{i}.png")
    return scanned(folder)


@pytest.fixture(scope="module")
def train(path):
    return manifest.load(path, "train")


@pytest.fixture(scope="module")
def val(path):
    return manifest.load(path, "val")


def everything(images):
    return np.arange(len(images))


def train_batches(images, *, seed=5, size=16, crop=CROP, randaugment=RAND_AUGMENT):
    return TrainBatches(images, crop=crop, size=size, seed=seed, randaugment=randaugment)


def read(batches, requests, workers=0):
    return list(Loader(batches, workers=workers, device=CPU).read(lambda: requests))


def joined(batches):
    return {
        name: torch.cat([getattr(batch, name) for batch in batches])
        for name in ("images", "labels", "positions")
    }


def assert_same(ours, theirs):
    for name, values in joined(theirs).items():
        assert torch.equal(joined(ours)[name], values)


# Decoding


def save_grey(path):
    Image.fromarray(pixels(20, 14, 1)[..., 0]).save(path.with_suffix(".png"))


def save_palette(path):
    picture(20, 14).quantize(17).save(path.with_suffix(".png"))


def save_transparent_palette(path):
    picture(20, 14).quantize(17).save(path.with_suffix(".png"), transparency=3)


def save_rgba(path):
    Image.fromarray(pixels(20, 14, 4), "RGBA").save(path.with_suffix(".png"))


def save_grey_alpha(path):
    Image.fromarray(pixels(20, 14, 2), "LA").save(path.with_suffix(".png"))


def save_one_bit(path):
    Image.fromarray(pixels(20, 14, 1)[..., 0] > 60).save(path.with_suffix(".png"))


def save_16_bit(path):
    values = RANDOM.integers(0, 2**16, (14, 20)).astype(np.uint16)
    image = Image.fromarray(values)
    assert image.mode.startswith("I;16")
    image.save(path.with_suffix(".png"))


def save_cmyk_jpeg(path):
    image = picture(20, 14).convert("CMYK")
    image.save(path.with_suffix(".jpg"))


def save_grey_jpeg(path):
    picture(20, 14).convert("L").save(path.with_suffix(".jpg"))


def save_rotated_jpeg(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees to look at it
    picture(20, 14).save(path.with_suffix(".jpg"), exif=exif)


def save_rgb_webp(path):
    picture(20, 14).save(path.with_suffix(".webp"), lossless=True)


SAVERS = [
    (save_grey, "L"),
    (save_palette, "P"),
    (save_transparent_palette, "P"),
    (save_rgba, "RGBA"),
    (save_grey_alpha, "LA"),
    (save_one_bit, "1"),
    (save_16_bit, "I;16"),
    (save_cmyk_jpeg, "CMYK"),
    (save_grey_jpeg, "L"),
    (save_rotated_jpeg, "RGB"),
    (save_rgb_webp, "RGB"),
]


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize(("save", "mode"), SAVERS, ids=[s.__name__[5:] for s, _ in SAVERS])
def test_every_mode_decodes_as_pillow_converts(tmp_path, save, mode):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        save(tmp_path / split / "a" / "image")
    images = manifest.load(scanned(tmp_path), "train")
    (decoded,) = Decoder(images)(0)
    with Image.open(images.path(0)) as file:
        assert file.mode == mode
        expected = file.convert("RGB")
    assert decoded.size == (20, 14) == (images.widths[0], images.heights[0])
    np.testing.assert_array_equal(np.asarray(decoded.convert("RGB")), np.asarray(expected))
    # and so it comes out of both kinds of batches
    whole = Crop(area=(1.0, 1.0), aspect=(20 / 14, 20 / 14), flip=0.0)
    batch = train_batches(images, size=14, crop=whole, randaugment=None)[0, np.array([0])]
    resized = expected.resize((14, 14), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), np.asarray(resized))
    batch = EvalBatches(images, resize=14, crop=14, interpolation="bilinear")[0, np.array([0])]
    np.testing.assert_array_equal(
        batch.images[0].permute(1, 2, 0), np.asarray(expected.crop((3, 0, 17, 14)))
    )


def test_rotation_in_exif_is_not_applied(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        save_rotated_jpeg(tmp_path / split / "a" / "image")
    images = manifest.load(scanned(tmp_path), "val")
    with Image.open(images.path(0)) as file:
        assert file.getexif()[0x0112] == 6
    assert Decoder(images)(0)[0].size == (20, 14)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow, of a cut TIFF
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_file_truncated_after_the_scan_is_named(tmp_path, suffix, share):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for i in range(2):
            picture(40, 30).save(tmp_path / split / "a" / f"{i}{suffix}")
    images = manifest.load(scanned(tmp_path), "train")
    content = images.path(1).read_bytes()
    images.path(1).write_bytes(content[: int(len(content) * share)])
    Decoder(images)(0)
    for batches in (
        train_batches(images),
        EvalBatches(images, resize=16, crop=16, interpolation="bilinear"),
    ):
        with pytest.raises(UserError, match="unreadable image") as caught:
            read(batches, [(0, np.array([0, 1]))])
        assert str(images.path(1)) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        picture(40, 30).save(tmp_path / split / "a" / "0.png")
    images = manifest.load(scanned(tmp_path), "train")
    images.path(0).unlink()
    with pytest.raises(UserError) as caught:
        Decoder(images)(0)
    assert str(images.path(0)) in str(caught.value)


def test_a_worker_names_the_file_on_one_line(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        picture(40, 30).save(tmp_path / split / "a" / "0.jpg")
    images = manifest.load(scanned(tmp_path), "train")
    images.path(0).write_bytes(images.path(0).read_bytes()[:300])
    with pytest.raises(UserError) as caught:
        read(train_batches(images), [(0, np.array([0]))], workers=1)
    assert str(images.path(0)) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_without_shared_memory_a_line_says_so_and_nothing_waits(train, monkeypatch):

    def refuse(*arguments):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    # A worker's queue would lose this error in a thread, and the loader wait for its timeout.
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "share_memory_", refuse)
        with pytest.raises(UserError, match="/dev/shm"):
            read(train_batches(train), [(0, np.array([0]))], workers=1)

    def missing():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("multiprocessing.Lock", missing)
    with pytest.raises(UserError, match="workers=0"):
        read(train_batches(train), [(0, np.array([0]))], workers=1)
    assert map_in_processes(abs, [-1, -2, -3, -4], title="", chunk=2) == [1, 2, 3, 4]


# Training batches


@pytest.mark.parametrize("interpolation", MODES)
def test_a_crop_is_torchvisions_resized_crop_of_the_planned_box(train, interpolation):
    crop = CROP.model_copy(update={"interpolation": interpolation})
    positions = everything(train)
    for epoch in range(4):
        plan = plan_crops(
            crop,
            seed=5,
            epoch=epoch,
            indices=train.rows,
            widths=train.widths,
            heights=train.heights,
        )
        batch = train_batches(train, crop=crop, randaugment=None)[epoch, positions]
        assert set(plan.flip) == {True, False}
        for i in positions:
            with Image.open(train.path(i)) as image:
                expected = F.resized_crop(
                    image,
                    int(plan.top[i]),
                    int(plan.left[i]),
                    int(plan.height[i]),
                    int(plan.width[i]),
                    [16, 16],
                    interpolation=MODES[interpolation],
                )
            if plan.flip[i]:
                expected = F.horizontal_flip(expected)
            assert torch.equal(batch.images[i], F.pil_to_tensor(expected))


def test_randaugment_comes_after_crop_and_flip(train):
    positions = everything(train)
    plain = train_batches(train, randaugment=None)[2, positions]
    batch = train_batches(train)[2, positions]
    augment = KeyedRandAugment(RAND_AUGMENT, interpolation="bilinear", seed=5)
    keys = augment.keys(epoch=2, indices=train.rows)
    expected = [
        F.pil_to_tensor(augment(F.to_pil_image(image), key))
        for image, key in zip(plain.images, keys, strict=True)
    ]
    assert torch.equal(batch.images, torch.stack(expected))
    assert not torch.equal(batch.images, plain.images)


def test_batches_hold_bytes_channels_last_with_labels_and_positions(train):
    positions = np.array([3, 0, 11])
    batch = train_batches(train)[0, positions]
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == batch.positions.dtype == torch.int64
    assert batch.positions.tolist() == [3, 0, 11]
    names = [train.path(position).parent.name for position in positions]
    assert [train.classes[label] for label in batch.labels] == names == ["one", "one", "two"]


def test_workers_change_nothing(train):
    requests = [(epoch, part) for epoch in (0, 1) for part in np.split(everything(train), 4)]
    alone = read(train_batches(train), requests)
    together = read(train_batches(train), requests, workers=2)
    assert [batch.positions.tolist() for batch in together] == [
        part.tolist() for _, part in requests
    ]
    assert_same(together, alone)


@given(order=st.permutations(range(16)), cuts=st.sets(st.integers(1, 15)))
@settings(deadline=None, max_examples=10)
def test_neither_order_nor_batching_changes_an_image(train, order, cuts):
    batches = train_batches(train)
    whole = batches[3, everything(train)]
    parts = np.split(np.array(order), sorted(cuts))
    found = joined([batches[3, part] for part in parts])
    assert found["positions"].tolist() == order
    assert torch.equal(found["images"], whole.images[order])
    assert torch.equal(found["labels"], whole.labels[order])


def test_an_image_is_augmented_alike_in_any_subset(train):
    chosen = np.array([13, 2, 7])
    subset = train.take(chosen)
    ours = train_batches(subset)[1, everything(subset)]
    theirs = train_batches(train)[1, chosen]
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)


def test_epochs_and_seeds_crop_differently(train):
    positions = everything(train)
    first = train_batches(train)[0, positions].images
    assert not torch.equal(train_batches(train)[1, positions].images, first)
    assert not torch.equal(train_batches(train, seed=6)[0, positions].images, first)


def plan_for(images, **values):
    defaults = {"batch": 8, "micro_batch": 8, "seed": 5, "rank": 0, "world": 1, "pairs": True}
    return Plan(images=len(images), **(defaults | values))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_follows_the_plan(train, workers):
    loader = Loader(train_batches(train), workers=workers, device=CPU)
    plan = plan_for(train, batch=4, micro_batch=2)
    for epoch, first in ((0, 0), (1, 0), (1, 3)):
        pairs = list(loader.train(plan, epoch, first))
        assert [step.number for step, _ in pairs] == list(range(first, 4))
        for (step, batches), planned in zip(
            pairs, plan.epoch(epoch, first_step=first), strict=True
        ):
            np.testing.assert_array_equal(step.positions, planned.positions)
            assert [batch.positions.tolist() for batch in batches] == [
                micro.tolist() for micro in planned.micro_batches
            ]
            assert_same(batches, [train_batches(train)[epoch, planned.positions]])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_left_early_does_not_leak_into_the_next(train, workers):
    loader = Loader(train_batches(train), workers=workers, device=CPU)
    abandoned = loader.read(lambda: [(0, np.array([i])) for i in range(16)])
    assert next(abandoned).positions.tolist() == [0]
    following = loader.read(lambda: [(1, np.array([i])) for i in (9, 4)])
    assert_same(list(following), [train_batches(train)[1, np.array([9, 4])]])


def workers_of(loader):
    """The workers' processes, after a batch."""
    before = set(multiprocessing.active_children())
    next(loader.read(lambda: [(0, np.array([i])) for i in range(16)]))
    return set(multiprocessing.active_children()) - before


def test_the_workers_of_a_closed_loader_have_ended(train):
    loader = Loader(train_batches(train), workers=2, device=CPU)
    workers = workers_of(loader)
    assert [each.is_alive() for each in workers] == [True, True]
    loader.close()
    assert [each.exitcode for each in workers] == [0, 0]


def test_ranks_and_accumulation_read_the_same_images(train):
    alone = plan_for(train)
    loader = Loader(train_batches(train), workers=0, device=CPU)
    expected = [batches[0] for _, batches in loader.train(alone, 2, 0)]
    ranks = [
        list(loader.train(dataclasses.replace(alone, world=2, rank=rank, micro_batch=2), 2, 0))
        for rank in range(2)
    ]
    for number, whole in enumerate(expected):
        pieces = [batch for rank in ranks for batch in rank[number][1]]
        assert [len(batch.labels) for batch in pieces] == [2, 2, 2, 2]
        assert_same(pieces, [whole])


# Evaluation batches


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize(("resize", "crop"), [(32, 32), (36, 32), (33, 32), (47, 32), (24, 17)])
def test_evaluation_is_torchvisions_resize_and_centre_crop(val, interpolation, resize, crop):
    transform = v2.Compose(
        [v2.Resize(resize, interpolation=MODES[interpolation]), v2.CenterCrop(crop)]
    )
    batches = EvalBatches(val, resize=resize, crop=crop, interpolation=interpolation)
    batch = batches[0, everything(val)]
    for i in everything(val):
        with Image.open(val.path(i)) as image:
            assert torch.equal(batch.images[i], F.pil_to_tensor(transform(image)))


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    crop=st.integers(8, 20),
    more=st.integers(0, 20),
)
@settings(deadline=None, max_examples=40)
def test_any_size_evaluates_as_in_torchvision(tmp_path_factory, width, height, crop, more):
    folder = tmp_path_factory.mktemp("one")
    picture(width, height).save(folder / "image.bmp")
    images = manifest.Images(
        folder,
        ("a",),
        pa.array(["image.bmp"]),
        *(np.array([value]) for value in (0, 0, width, height)),
    )
    batches = EvalBatches(images, resize=crop + more, crop=crop, interpolation="bilinear")
    with Image.open(images.path(0)) as image:
        expected = v2.CenterCrop(crop)(v2.Resize(crop + more)(image))
    assert torch.equal(batches[0, np.array([0])].images[0], F.pil_to_tensor(expected))


def test_workers_and_batching_do_not_change_evaluation(val):
    batches = EvalBatches(val, resize=36, crop=32, interpolation="bicubic")
    whole = batches[0, everything(val)]
    parts = [(0, part) for part in np.split(everything(val), [3, 4, 11])]
    assert_same(read(batches, parts, workers=2), [whole])
    assert_same([batches[7, everything(val)]], [whole])  # no epoch in it


def test_bytes_become_shares_of_255_in_the_same_layout():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 4, 8, 8).repeat(2, 1, 1, 1)[:, :3]
    images = images.contiguous(memory_format=torch.channels_last)
    floats = to_float(images)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(floats.double(), images.double() / 255, rtol=1e-7, atol=0)
    assert (floats.min(), floats.max()) == (0, 191 / 255)
    assert images.dtype == torch.uint8


class Stuck(TrainBatches):
    """Images on a disk that doesn't answer."""

    def batch(self, request):
        time.sleep(60)


def test_a_loader_does_not_wait_for_ever(train):
    stuck = Stuck(train, crop=CROP, size=16, seed=0, randaugment=None)
    loader = Loader(stuck, workers=1, device=torch.device("cpu"), timeout_minutes=0.5 / 60)
    with pytest.raises(TimeoutError, match="no images for"):
        next(loader.read(lambda: [(0, np.arange(4))]))
