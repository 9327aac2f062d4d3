import dataclasses
import gc
import io
import multiprocessing
import os
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from test_loader import workers_of
from torch import nn

from mfm.__main__ import main
from mfm.data.linking import manifest
from mfm.data.loading import dali, drift
from mfm.data.loading.batches import EvalBatches, TrainBatches
from mfm.data.loading.choice import create_loader
from mfm.data.loading.dali import DaliBatches, PipelineLoader, plain_jpeg_size
from mfm.data.loading.order import Plan
from mfm.data.pictures.reading import Reading
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, Crop, RandAugment, Seen
from mfm.errors import UserError
from mfm.evaluation.classifier import Subject
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.settings import Classification
from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.models import weights
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.processes.ranks import Process
from mfm.settings.section import parse

CPU = torch.device("cpu")
CROP = Crop(area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))
RAND_AUGMENT = RandAugment(ops=2, magnitude=6, bins=10)
SIZES = [(90, 70), (70, 90), (64, 64), (33, 50), (51, 34), (1, 1), (9, 100), (101, 10)]


def photograph(width, height, seed=0):
    """Smooth, with some noise and an edge: neither a flip nor a shift goes unseen."""
    draw = np.random.default_rng((seed, width, height))
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(x * a + y * b + c) for a, b, c in draw.uniform(0.3, 3, (3, 3))]
    pixels = 128 + 70 * np.stack(waves, axis=2) + 40 * (x > y)[..., None]
    pixels += draw.normal(0, 4, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def noise(width, height, channels, dtype=np.uint8):
    draw = np.random.default_rng(channels)
    return draw.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A manifest of JPEGs, one PNG among them, in 2 classes and 8 sizes."""
    folder = tmp_path_factory.mktemp("images")
    for split in ("train", "val"):
        for label, name in enumerate(("one", "two")):
            (folder / split / name).mkdir(parents=True)
            for i, size in enumerate(SIZES):
                file = folder / split / name / f"{i}.{'png' if i == 3 else 'jpg'}"
                photograph(*size, seed=label).save(file, quality=95)
    manifest.write(folder)
    return folder / "manifest.parquet"


@pytest.fixture(scope="module")
def train(path):
    return manifest.load(path, "train")


@pytest.fixture(scope="module")
def val(path):
    return manifest.load(path, "val")


def alone(folder, name, size=None, **reading):
    """The images of a folder that holds one."""
    with Image.open(folder / name) as image:
        width, height = size or image.size
    numbers = (np.array([v]) for v in (0, 0, width, height))
    read = Reading(**reading)
    return manifest.Images(folder, ("a",), pa.array([name]), *numbers, read)


def train_batches(images, *, interpolation="bilinear", randaugment=None, size=32):
    crop = CROP.model_copy(update={"interpolation": interpolation})
    return TrainBatches(images, crop=crop, size=size, seed=5, randaugment=randaugment)


def plan_for(images, **more):
    values = {"batch": 4, "micro_batch": 4, "seed": 5, "rank": 0, "world": 1, "pairs": False}
    return Plan(images=len(images), **values | more)


def by_dali(batches, requests, *, workers=0):
    return list(create_loader("dali", batches, workers=workers, device=CPU).read(lambda: requests))


def by_pipeline(batches, requests):
    return list(PipelineLoader(batches, workers=0, device=CPU).read(lambda: requests))


def by_pillow(batches, requests):
    return [batches.batch(request) for request in requests]


def images_of(batches):
    return torch.cat([batch.images for batch in batches]).int()


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.positions, other.positions)
        assert torch.equal(one.images, other.images)


# Same requests, same batches

READERS = {"dali": by_dali, "pipeline": by_pipeline}
# The largest and the mean difference from Pillow's pixels, in levels of 0 to 255: torch resizes
# the one's, DALI the other's.
TOLERANCE = {
    ("dali", "bilinear"): (1, 0.05),
    ("dali", "bicubic"): (8, 0.1),
    ("pipeline", "bilinear"): (16, 0.4),
    ("pipeline", "bicubic"): (20, 0.5),
}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("reader", READERS)
def test_crops_and_flips_are_those_of_the_other_loader(train, reader, interpolation):
    batches = train_batches(train, interpolation=interpolation)
    requests = [(epoch, np.random.default_rng(epoch).permutation(len(train))) for epoch in range(4)]
    requests.append((4, np.arange(len(train)).repeat(2)))  # two views of each image
    ours, theirs = READERS[reader](batches, requests), by_pillow(batches, requests)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.positions, other.positions)
        assert one.images.dtype == torch.uint8
        assert one.images.is_contiguous(memory_format=torch.channels_last)
    differences = (images_of(ours) - images_of(theirs)).abs()
    largest, mean = TOLERANCE[reader, interpolation]
    assert differences.max() <= largest
    assert differences.double().mean() <= mean


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("resize", "crop"), [(32, 32), (47, 32), (36, 33)])
def test_evaluation_has_the_other_loaders_geometry(val, reader, interpolation, resize, crop):
    batches = EvalBatches(val, resize=resize, crop=crop, interpolation=interpolation)
    requests = [(0, part) for part in np.split(np.arange(len(val)), [3, 4, 11])]
    ours, theirs = READERS[reader](batches, requests), by_pillow(batches, requests)
    differences = (images_of(ours) - images_of(theirs)).abs()
    largest, mean = TOLERANCE[reader, interpolation]
    assert differences.max() <= largest
    assert differences.double().mean() <= mean


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    epoch=st.integers(0, 99),
    size=st.integers(8, 64),
)
@settings(deadline=None, max_examples=30)
def test_any_crop_of_any_image_is_close(tmp_path_factory, width, height, epoch, size):
    folder = tmp_path_factory.mktemp("one")
    photograph(width, height).save(folder / "image.jpg", quality=90)
    batches = train_batches(alone(folder, "image.jpg"), size=size)
    request = (epoch, np.array([0]))
    theirs = batches.batch(request).images.int()
    assert (DaliBatches(batches).batch(request).images.int() - theirs).abs().max() <= 1


# Order, resume, workers


@pytest.mark.parametrize("randaugment", [None, RAND_AUGMENT])
def test_the_same_bits_twice_with_any_number_of_workers(train, randaugment):
    batches = train_batches(train, randaugment=randaugment)
    requests = [(1, part) for part in np.split(np.arange(len(train)), [1, 5, 6, 13])]
    first = by_dali(batches, requests)
    assert_same(by_dali(batches, requests), first)
    assert_same(by_dali(batches, requests, workers=2), first)


def test_randaugment_is_the_other_loaders(train):
    # On crops whose pixels agree to the bit: whole images, not resized.
    crop = Crop(area=(1.0, 1.0), aspect=(1.0, 1.0))
    square = train.take(np.flatnonzero(train.widths == 64))
    assert len(square) == 2
    batches = TrainBatches(square, crop=crop, size=64, seed=5, randaugment=RAND_AUGMENT)
    requests = [(epoch, np.arange(2)) for epoch in range(5)]
    theirs = by_pillow(batches, requests)
    assert_same(by_dali(batches, requests), theirs)
    plain = TrainBatches(square, crop=crop, size=64, seed=5)
    assert not torch.equal(images_of(theirs), images_of(by_pillow(plain, requests)))


@pytest.mark.parametrize("loader_of", [create_loader, None])
def test_an_epoch_starts_at_any_step_and_follows_another(train, loader_of):
    batches = train_batches(train)
    if loader_of:
        loader = loader_of("dali", batches, workers=2, device=CPU)
    else:
        loader = PipelineLoader(batches, workers=1, device=CPU)
    plan = plan_for(train, batch=6, micro_batch=3)
    whole = {epoch: list(loader.train(plan, epoch, 0)) for epoch in (0, 1)}
    assert [len(steps) for steps in whole.values()] == [2, 2]
    for epoch, steps in whole.items():
        for first in range(3):
            rest = list(loader.train(plan, epoch, first))
            assert [step.number for step, _ in rest] == list(range(first, 2))
            for (_, ours), (_, theirs) in zip(rest, steps[first:], strict=True):
                assert_same(ours, theirs)
    assert not torch.equal(images_of(whole[0][0][1]), images_of(whole[1][0][1]))


def test_a_closed_loader_has_neither_workers_nor_pipeline(train):
    batches = TrainBatches(train, crop=CROP, size=64, seed=5)
    loader = PipelineLoader(batches, workers=1, device=CPU)
    workers, threads = workers_of(loader), count_threads()
    loader.close()
    assert [each.exitcode for each in workers] == [0]
    assert count_threads() < threads, "DALI's"


def count_threads():
    return len(os.listdir("/proc/self/task"))


def test_a_pass_given_up_leaves_nothing_to_the_next(train):
    batches = train_batches(train)
    requests = [(0, np.array([i, i + 1])) for i in range(10)]
    loader = PipelineLoader(batches, workers=0, device=CPU)
    given_up = loader.read(lambda: requests)
    next(given_up)
    given_up.close()
    assert_same(list(loader.read(lambda: requests[5:])), by_pipeline(batches, requests[5:]))


@pytest.mark.parametrize("reader", READERS)
def test_batches_of_growing_and_shrinking_size(train, reader):
    batches = train_batches(train)
    parts = np.split(np.arange(len(train)), [2, 3, 9, 10])
    together = READERS[reader](batches, [(0, np.arange(len(train)))])
    apart = READERS[reader](batches, [(0, part) for part in parts])
    assert [len(batch.labels) for batch in apart] == [len(part) for part in parts]
    assert torch.equal(images_of(apart), images_of(together))


def test_ranks_read_their_shares_of_the_same_images(train):
    batches = train_batches(train)
    plan = plan_for(train)
    whole = list(create_loader("dali", batches, workers=0, device=CPU).train(plan, 2, 0))
    ranks = [
        list(
            create_loader("dali", batches, workers=0, device=CPU).train(
                dataclasses.replace(plan, world=2, rank=rank), 2, 0
            )
        )
        for rank in range(2)
    ]
    for number, (_, [expected]) in enumerate(whole):
        pieces = [batch for rank in ranks for batch in rank[number][1]]
        assert torch.equal(images_of(pieces), expected.images.int())
        assert torch.equal(torch.cat([piece.positions for piece in pieces]), expected.positions)


# Every mode


def jpeg(image, **options):
    content = io.BytesIO()
    image.save(content, "JPEG", **options)
    return content.getvalue()


def png(image, **options):
    content = io.BytesIO()
    image.save(content, "PNG", **options)
    return content.getvalue()


def ycck():
    """A CMYK JPEG whose Adobe marker says that its colours are YCCK."""
    content = bytearray(jpeg(photograph(20, 14).convert("CMYK")))
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    content[transform] = 2
    return bytes(content)


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(photograph(20, 14), exif=exif)


MODES = {
    "jpeg": lambda: jpeg(photograph(20, 14)),
    "jpeg-4:4:4": lambda: jpeg(photograph(20, 14), subsampling=0, quality=98),
    "jpeg-4:2:2": lambda: jpeg(photograph(20, 14), subsampling=1),
    "jpeg-progressive": lambda: jpeg(photograph(20, 14), progressive=True),
    "jpeg-grey": lambda: jpeg(photograph(20, 14).convert("L")),
    "jpeg-rgb": lambda: jpeg(photograph(20, 14), keep_rgb=True),
    "jpeg-cmyk": lambda: jpeg(photograph(20, 14).convert("CMYK")),
    "jpeg-ycck": ycck,
    "jpeg-exif-rotated": rotated,
    "jpeg-restarts": lambda: jpeg(photograph(20, 14), restart_marker_blocks=1),
    "jpeg-trailing-bytes": lambda: jpeg(photograph(20, 14)) + b"\0\0 a camera's note",
    "png": lambda: png(photograph(20, 14)),
    "png-grey": lambda: png(photograph(20, 14).convert("L")),
    "png-16-bit": lambda: png(Image.fromarray(noise(20, 14, 1, np.uint16)[..., 0])),
    "png-palette": lambda: png(photograph(20, 14).quantize(17)),
    "png-palette-transparent": lambda: png(photograph(20, 14).quantize(17), transparency=3),
    "png-rgba": lambda: png(Image.fromarray(noise(20, 14, 4), "RGBA")),
    "png-grey-alpha": lambda: png(Image.fromarray(noise(20, 14, 2), "LA")),
    "png-1-bit": lambda: png(photograph(20, 14).convert("1")),
    "png-transparent": lambda: png(photograph(20, 14), transparency=(1, 2, 3)),
    "jpeg-1x1": lambda: jpeg(photograph(1, 1)),
    "png-1x1": lambda: png(photograph(1, 1)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_pillows_conversion(tmp_path, mode):
    # All of them are named .JPEG, as some of ImageNet's PNGs are.
    (tmp_path / "image.JPEG").write_bytes(MODES[mode]())
    with Image.open(tmp_path / "image.JPEG") as image:
        expected = np.asarray(image.convert("RGB"))
    # As Pillow clips it.
    reading = {"window": ((0, 255),)} if mode == "png-16-bit" else {}
    assert_centre_is(alone(tmp_path, "image.JPEG", **reading), expected)


@pytest.mark.parametrize("mode", ["jpeg-exif-rotated", "jpeg"])
def test_pictures_are_turned_as_exif_asks_where_it_is_to_apply(tmp_path, mode):
    (tmp_path / "image.jpg").write_bytes(MODES[mode]())
    with Image.open(tmp_path / "image.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == ((20, 14, 3) if mode == "jpeg-exif-rotated" else (14, 20, 3))
    size = expected.shape[1], expected.shape[0]
    assert_centre_is(alone(tmp_path, "image.jpg", size, exif="apply"), expected)


def assert_centre_is(images, expected):
    """All loaders give the middle of what is expected."""
    side = min(expected.shape[:2])
    # 3 where 20 becomes 14
    top, left = ((length - side) // 2 for length in expected.shape[:2])
    expected = expected[top : top + side, left : left + side]
    batches = EvalBatches(images, resize=side, crop=side, interpolation="bilinear")
    for read in (by_dali, by_pipeline, by_pillow):
        [batch] = read(batches, [(0, np.array([0]))])
        assert np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), expected), read


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_very_large_image(tmp_path):
    # Smooth and grey, so that the test is cheap: what is large is the number of pixels.
    ramp = np.add.outer(np.arange(9000) // 90, np.arange(12000) // 120).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "large.jpg", quality=50)
    images = alone(tmp_path, "large.jpg")
    assert (images.widths[0], images.heights[0]) == (12000, 9000)
    crop = Crop(area=(0.001, 0.01))
    batches = TrainBatches(images, crop=crop, size=64, seed=1)
    request = (0, np.array([0]))
    ours, theirs = DaliBatches(batches).batch(request), batches.batch(request)
    assert (ours.images.int() - theirs.images.int()).abs().max() <= 1
    assert theirs.images.float().std() > 0.5


@pytest.mark.parametrize("mode", ["jpeg", "jpeg-progressive", "jpeg-grey", "jpeg-exif-rotated"])
def test_dali_decodes_plain_jpegs(mode, tmp_path):
    assert plain_jpeg_size(MODES[mode]()) == (20, 14)


@given(cut=st.integers(0, 700), tail=st.sampled_from([b"", b"\xff\xd9"]))
def test_no_torn_header_fools_the_parser(cut, tail):
    assert plain_jpeg_size(jpeg(photograph(20, 14))[:cut] + tail) in (None, (20, 14))


# Errors


def damaged(kind):
    whole = jpeg(photograph(64, 48))
    return {
        "truncated": whole[: len(whole) // 2],
        "no data": whole[: whole.index(b"\xff\xda")] + b"\xff\xd9",
        "text": b"not an image",
        "empty": b"",
        "missing": None,
    }[kind]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["truncated", "no data", "text", "empty", "missing"])
def test_an_unreadable_image_is_named_and_the_next_pass_is_whole(tmp_path, capfd, reader, kind):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(photograph(64, 48)))
    images = manifest.Images(
        tmp_path,
        ("a",),
        pa.array(["a.jpg", "b.jpg", "c.jpg"]),
        np.arange(3),
        np.zeros(3, np.int64),
        np.full(3, 64),
        np.full(3, 48),
    )
    content = damaged(kind)
    (tmp_path / "b.jpg").unlink()
    if content is not None:
        (tmp_path / "b.jpg").write_bytes(content)
    batches = EvalBatches(images, resize=48, crop=48, interpolation="bilinear")
    with pytest.raises(UserError, match=r"b\.jpg"):
        READERS[reader](batches, [(0, np.arange(3))])
    good = [(0, np.array([0, 2]))]
    assert_same(READERS[reader](batches, good), by_pillow(batches, good))


def test_an_error_ends_one_pass_of_a_loader_and_not_the_next(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(64, 48)))
    (tmp_path / "b.jpg").write_bytes(damaged("no data"))
    images = manifest.Images(
        tmp_path,
        ("a",),
        pa.array(["a.jpg", "b.jpg"]),
        *([np.arange(2)] * 2),
        np.full(2, 64),
        np.full(2, 48),
    )
    batches = EvalBatches(images, resize=48, crop=48, interpolation="bilinear")
    for loader in (
        create_loader("dali", batches, workers=1, device=CPU),
        PipelineLoader(batches, workers=0, device=CPU),
    ):
        with pytest.raises(UserError, match=r"b\.jpg"):
            list(loader.read(lambda: [(0, np.array([0])), (0, np.array([1]))]))
        good = [(0, np.array([0]))]
        assert_same(list(loader.read(lambda: good)), by_pillow(batches, good))  # noqa: B023


class Ended:
    """Garbage by a cycle, as a pipeline that is no longer used; `times` counts its ends."""

    times = 0

    def __init__(self):
        self.cycle = self

    def __del__(self):
        Ended.times += 1


def _collect(answers):
    gc.collect()
    answers.send(Ended.times)


def test_a_forked_worker_leaves_its_parents_garbage_alone():
    there, here = multiprocessing.get_context("fork").Pipe()
    gc.collect()
    before = Ended.times
    Ended()
    worker = multiprocessing.get_context("fork").Process(target=_collect, args=(here,))
    worker.start()
    worker.join()
    assert there.recv() == before
    gc.collect()
    assert Ended.times == before + 1


@pytest.mark.parametrize("reader", READERS)
def test_a_size_that_is_not_the_manifests_is_an_error(tmp_path, reader):
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(64, 48)))
    images = alone(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(48, 64)))
    batches = EvalBatches(images, resize=48, crop=48, interpolation="bilinear")
    with pytest.raises(UserError, match=r"64x48.*48x64.*link_dataset"):
        READERS[reader](batches, [(0, np.array([0]))])


def test_without_dali_one_line_says_what_to_install(train, monkeypatch):
    monkeypatch.delitem(sys.modules, "mfm.data.loading.dali")
    monkeypatch.setattr("mfm.data.loading.dali", dali)  # put back after the test
    monkeypatch.delattr("mfm.data.loading.dali")
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UserError, match=r"pip install nvidia-dali-cuda130.*loader: torchvision"):
        create_loader("dali", train_batches(train), workers=0, device=CPU)


# In the workflow


def test_one_key_reaches_every_stage_and_is_torchvision_by_default():
    values = {"pretrain": {"p": {"task": "mfm"}}, "arms": {"scratch": "scratch"}}
    for loader in ("torchvision", "dali"):
        given = values if loader == "torchvision" else values | {"loader": loader}
        experiment = parse(Experiment, given, where="test")
        runs = [
            resolve.pretrain_job(experiment, "p", 0),
            resolve.finetune_job(experiment, "scratch", 0),
            resolve.evaluate_job(experiment),
        ]
        assert [run.loader for run in runs] == [loader] * 3
    with pytest.raises(UserError, match="loader"):
        parse(Experiment, values | {"loader": "ffcv"}, where="test")


class Brightness(nn.Module):
    """Logits are the means of the channels; remembers how many images it saw."""

    seen = 0

    def forward(self, images):
        self.seen += len(images)
        return images.mean(dim=(2, 3))


def evaluate_run(loader):
    return EvaluateJob(
        dataset=Seen(name="fashion-mnist", image_size=32),
        loader=loader,
        model=Model(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        evaluation=Classification(resize=36, crop=32, batch=5),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_counts_every_image_once(val, workers):
    process = Process(rank=0, world=1, device=CPU)
    subject = Subject(
        model=Brightness(),
        images=val,
        job=evaluate_run("dali"),
        process=process,
        workers=workers,
    )
    ours = subject.predict()
    theirs = dataclasses.replace(subject, job=evaluate_run("torchvision"), workers=0).predict()
    assert len(ours.labels) == len(val)
    assert np.array_equal(ours.labels, val.labels)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-3)


# Drift


def test_drift_is_the_difference_of_the_two_loaders(val):
    batches = EvalBatches(val, resize=47, crop=32, interpolation="bicubic")
    positions = np.array([0, 1, 2, 4, 9])
    found = drift.drift(batches, positions, workers=0, device=CPU)
    ours, theirs = (read(batches, [(0, positions)])[0] for read in (by_dali, by_pillow))
    differences = np.abs(ours.images.numpy().astype(int) - theirs.images.numpy().astype(int))
    assert found.mean == pytest.approx(differences.mean())
    assert found.largest == differences.max() > 0
    assert found.share == pytest.approx((differences > 0).mean())
    assert found.worst == positions[differences.mean(axis=(1, 2, 3)).argmax()]


def test_samples_are_by_seed(val):
    assert np.array_equal(drift.sample(val, 0, seed=0), np.arange(len(val)))
    assert np.array_equal(drift.sample(val, 99, seed=0), np.arange(len(val)))
    chosen = [tuple(drift.sample(val, 5, seed=seed)) for seed in range(4)]
    assert all(len(set(part)) == 5 for part in chosen)
    assert len(set(chosen)) > 1


def test_the_command_prints_pixels_and_accuracy(path, tmp_path, monkeypatch, capsys):
    experiment = tmp_path / "config.yaml"
    experiment.write_text("dataset: {name: mine, image_size: 32}\n")
    model = create_backbone(Model(), classes=2)
    weights.save_weights(model, tmp_path / "model.safetensors", {"arm": "scratch"})
    arguments = ["--configfile", str(experiment), "--manifest", str(path), "--images", "6"]
    arguments += ["--weights", str(tmp_path / "model.safetensors"), "--workers", "0"]
    monkeypatch.setattr("sys.argv", ["mfm", "loader-drift", *arguments])
    main()
    printed = capsys.readouterr().out
    assert "torchvision against dali on cpu: 6 training and 6 evaluation images" in printed
    assert "| finetuning crop, 32 px, bilinear |" in printed
    assert "| evaluation, 32 to 32 px, bilinear |" in printed
    assert "| torchvision | " in printed
    assert "| dali | " in printed
    assert "of 6 predictions change" in printed


def test_the_command_says_that_a_dataset_is_not_linked(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("dataset: {name: mine}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mfm", "loader-drift"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert "link_dataset" in capsys.readouterr().err
