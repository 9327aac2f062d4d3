"""Pictures of other kinds than 8-bit RGB: of more bits, of other channels, to be turned."""

import base64
import io
import json
import struct
import sys
import zlib
from itertools import count

import numpy as np
import pytest
import tifffile
import timm
import torch
from PIL import Image, ImageOps

from mfm.data.linking import link, manifest
from mfm.data.loading.batches import EvalBatches, TrainBatches
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, Crop, Dataset
from mfm.errors import UserError
from mfm.evaluation.classifier import Subject
from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.models.backbones import create_backbone
from mfm.models.origin import Origin
from mfm.models.settings import Model
from mfm.models.weights import load_backbone, load_weights
from mfm.objectives import MaskedFrequencyModeling
from mfm.objectives.panels import grid, show
from mfm.planning.kinds import channels_of, some_of
from mfm.processes.ranks import Process
from mfm.reporting.gallery.thumbnails import Thumbnails
from mfm.settings.section import dumps, parse
from mfm.training.operation import Operation
from mfm.training.run import run

HEIGHT, WIDTH, SIDE = 12, 16, 12  # the middle of each picture is seen as it is
RANDOM = np.random.default_rng(0)


def draws(*, low=0, high=65536, channels=None, dtype=np.uint16):
    shape = (HEIGHT, WIDTH) if channels is None else (HEIGHT, WIDTH, channels)
    return RANDOM.integers(low, high, shape).astype(dtype)


def png16(values):
    """A PNG of 16 bits a channel, which Pillow can't write in colour."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="rgb" if values.shape[2:] == (3,) else None)
    elif values.dtype == np.uint16 and values.ndim == 3:
        path.write_bytes(png16(values))
    else:
        Image.fromarray(values).save(path)


def fill(root, make, *, name="x.png", train=2, val=2):
    """Two classes of pictures; what stands in the files, by path."""
    made = {}
    for split, images in (("train", train), ("val", val)):
        for label in ("a", "b"):
            for number in range(images):
                path = root / split / label / f"{number}{name}"
                made[path.relative_to(root).as_posix()] = values = make()
                save(path, values)
    return made


def linked(root, folder, **settings):
    """What linking says, and the images of a split."""
    notes = link.link(Dataset(name="own", source=str(root), **settings), folder)
    return notes, {s: manifest.load(folder / manifest.NAME, s) for s in ("train", "val")}


def seen(images):
    """The middle squares by path: uint8 [side, side, channels]."""
    batches = EvalBatches(images, resize=SIDE, crop=SIDE, interpolation="bilinear")
    pixels = batches.batch((0, np.arange(len(images)))).images.permute(0, 2, 3, 1).numpy()
    return dict(zip(images.paths.to_pylist(), pixels, strict=True))


def middle(values):
    left = (WIDTH - SIDE) // 2
    square = values[:, left : left + SIDE]
    return square if square.ndim == 3 else square[..., None]


def scaled(values, low, high):
    return np.rint(np.clip((values.astype(float) - low) * 255 / (high - low), 0, 255))


KINDS = {
    "grey.png": draws,
    "colour.png": lambda: draws(channels=3),
    "transparent.png": lambda: draws(channels=4),
    "grey.tif": draws,
    "colour.tif": lambda: draws(channels=3),
    "float.tif": lambda: RANDOM.normal(size=(HEIGHT, WIDTH)).astype(np.float32),
    "double.tif": lambda: RANDOM.normal(size=(HEIGHT, WIDTH)),
    "colours.tif": lambda: RANDOM.normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32),
    "signed.tif": lambda: draws(low=-500, high=500, dtype=np.int16),
    "byte.tif": lambda: draws(low=-100, high=100, dtype=np.int8),
    "large.tif": lambda: draws(high=2**32, dtype=np.uint32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_8_bits_are_refused_or_scaled_by_the_training_images(tmp_path, kind):
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, KINDS[kind], name=kind)
    with pytest.raises(UserError) as caught:
        linked(root, folder)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("8 of 8 images have more than 8 bits")
    assert str(root / f"train/a/0{kind}") in said
    assert all(way in said for way in ("dataset.scale", "range", "percentile", "[low, high]"))
    assert not (folder / manifest.NAME).exists()
    _, images = linked(root, folder, scale="range")
    opaque = {
        path: values[..., :3] if values.ndim == 3 else values for path, values in made.items()
    }
    train = np.concatenate([v.ravel() for path, v in opaque.items() if path.startswith("train")])
    low, high = float(train.min()), float(train.max())
    assert images["val"].reading.window == ((low, high),)
    for split in ("train", "val"):
        for path, pixels in seen(images[split]).items():
            expected = scaled(middle(opaque[path]), low, high)
            assert (pixels == np.broadcast_to(expected, pixels.shape)).all()


def test_what_is_cut_off_is_counted_and_told(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, lambda: draws(high=1000))
    notes, images = linked(root, folder, scale=[100, 899])
    val = np.stack([values for path, values in made.items() if path.startswith("val")])
    share = float(((val < 100) | (val > 899)).mean())
    [note] = notes
    assert f"{100 * share:.3g}% of val's values" in note
    assert "8 images" in note
    assert "100 to 899 become 0 to 255" in note
    said = json.loads((folder / "summary.json").read_text())["scale"]
    assert said["outside"]["val"] == pytest.approx(share)
    assert said["window"] == [[100, 899]]
    assert images["train"].reading.window == ((100, 899),)


def test_percentiles_leave_out_a_few_wild_values(tmp_path):
    number = count()

    def wild():
        values = draws(high=1000)
        values[0, 0] = 65535 if next(number) == 0 else 0
        return values

    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, wild)
    _, images = linked(root, folder, scale="percentile")
    train = np.stack([values for path, values in made.items() if path.startswith("train")])
    assert images["val"].reading.window == (tuple(np.percentile(train, (0.5, 99.5))),)
    assert images["val"].reading.window[0][1] < 1001 < train.max()
    # The same again, from another folder and with other images of val: of train alone.
    save(root / "val/a/0x.png", draws())
    _, again = linked(root, tmp_path / "again", scale="percentile")
    assert again["val"].reading.window == images["val"].reading.window


def test_another_window_is_other_images_for_every_job_that_reads_them(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, draws)
    digests = []
    for scale in ("range", [0, 65535], [0, 65535]):
        linked(root, folder, scale=scale)
        digests.append(manifest.digests(folder / manifest.NAME))
    assert digests[0]["val"] != digests[1]["val"] == digests[2]["val"]


def test_8_bits_stay_as_they_are_whatever_is_asked_of_deeper_ones(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, lambda: draws(high=256, channels=3, dtype=np.uint8))
    _, plain = linked(root, folder)
    before = {split: seen(images) for split, images in plain.items()}
    digests = manifest.digests(folder / manifest.NAME)
    [note], _ = linked(root, folder, scale="range")
    assert "changes nothing" in note
    assert manifest.digests(folder / manifest.NAME) == digests
    for split, pixels in before.items():
        for path, each in pixels.items():
            assert (each == middle(made[path])).all(), split
    save(root / "val/a/deep.png", draws(high=1000))
    _, mixed = linked(root, folder, scale=[0, 999])
    for path, each in before["val"].items():
        assert (seen(mixed["val"])[path] == each).all()


def test_a_value_that_is_no_number_is_refused_with_its_file(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, KINDS["float.tif"], name="x.tif")
    values = KINDS["float.tif"]()
    values[3, 4] = np.nan
    save(root / "val/b/bad.tif", values)
    save(root / "train/a/bad.tif", values)
    with pytest.raises(UserError, match=r"2 unreadable.* 1 of its 192 values are NaN") as caught:
        linked(root, folder, scale="range")
    assert all(f"{name}/bad.tif (" in str(caught.value) for name in ("train/a", "val/b"))
    [left, _], images = linked(root, folder, scale="range", on_bad_image="skip")
    assert "2 files left out" in left
    assert len(images["val"]) == 4


def test_equal_values_give_no_range(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, lambda: np.full((HEIGHT, WIDTH), 700, np.uint16))
    save(root / "val/a/0x.png", draws())
    with pytest.raises(UserError, match=r"dataset\.scale is range.* all 700: give \[low, high\]"):
        linked(root, folder, scale="range")
    # In the second channel, one pixel differs from the others.
    number = count()
    first, other = np.arange(300).reshape(10, 30), np.zeros((10, 30))
    other[0, 0] = 9
    fill(tmp_path / "two", lambda: np.stack([first + next(number), other], axis=-1), name="x.npy")
    with pytest.raises(UserError, match=r"99\.5th percentile of .* are both 0 in channel 1"):
        linked(tmp_path / "two", folder / "two", scale="percentile", channels=2)


def test_pictures_that_an_earlier_version_clipped_are_not_read_again(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, draws)
    _, images = linked(root, folder, scale="range")
    old = manifest.Images(**{**vars(images["val"]), "reading": type(images["val"].reading)()})
    with pytest.raises(UserError, match=r"more than 8 bits.*dataset\.scale"):
        seen(old)


def test_without_tifffile_one_line_says_what_to_install(tmp_path, monkeypatch):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, KINDS["colour.tif"], name="x.tif")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match="pip install tifffile"):
        linked(root, folder, scale="range")


def test_what_is_said_of_deep_pictures_changes_no_other_dataset():
    text = dumps(Dataset())
    assert not any(key in text for key in ("scale", "exif", "channels"))
    assert parse(Dataset, json.loads(text), where="test") == Dataset()
    for given in ("range", "percentile", [0, 4095]):
        dataset = parse(Dataset, {"scale": given}, where="test")
        assert parse(Dataset, json.loads(dumps(dataset)), where="test") == dataset
    with pytest.raises(UserError, match="low < high"):
        parse(Experiment, {"dataset": {"scale": [5, 5]}}, where="test")


ORIENTATIONS = range(1, 9)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_is_ignored_or_applied(tmp_path, orientation):
    root = tmp_path / "images"
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = draws(high=256, channels=3, dtype=np.uint8)
    for split in ("train", "val"):
        for label in ("a", "b"):
            for name in ("0.png", "1.png"):
                (root / split / label).mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(values + len(split) + ord(label) + int(name[0]))
                image.save(root / split / label / name, exif=exif)
    path = "val/a/1.png"
    with Image.open(root / path) as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
        as_it_is = np.asarray(image)
    for settings, expected in (({}, as_it_is), ({"exif": "apply"}, turned)):
        _, images = linked(root, tmp_path / "data", **settings)
        height, width, _ = expected.shape
        assert images["val"].widths.tolist() == [width] * 4
        top, left = (height - SIDE) // 2, (width - SIDE) // 2
        square = expected[top : top + SIDE, left : left + SIDE]
        assert (seen(images["val"])[path] == square).all()


# Channels


def stacked(channels, **more):
    return lambda: draws(channels=channels, **{"high": 256, "dtype": np.uint8, **more})


FILES = {
    "npy, last": ("x.npy", 4, stacked(4), lambda v: v),
    "npy, first": (
        "x.npy",
        5,
        lambda: np.moveaxis(stacked(5)(), 2, 0),
        lambda v: v.transpose(1, 2, 0),
    ),
    "npy, grey": ("x.npy", 1, lambda: draws(high=256, dtype=np.uint8), lambda v: v[..., None]),
    "npy, grey seen as RGB": (
        "x.npy",
        3,
        lambda: draws(high=256, dtype=np.uint8)[..., None],
        lambda v: v.repeat(3, axis=2),
    ),
    "npy, RGB": ("x.npy", 3, stacked(3), lambda v: v),
    "tiff": ("x.tif", 5, stacked(5), lambda v: v),
    "RGBA": ("x.png", 4, stacked(4), lambda v: v),
    "grey": ("x.png", 1, lambda: draws(high=256, dtype=np.uint8), lambda v: v[..., None]),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_channel_comes_into_the_batch_as_it_is(tmp_path, kind):
    name, channels, make, last = FILES[kind]
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, make, name=name)
    notes, images = linked(root, folder, channels=channels)
    assert notes == []
    for path, pixels in seen(images["val"]).items():
        assert (pixels == middle(last(made[path]))).all()


def test_crops_and_flips_move_all_channels_together(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    # Channels 0 to 2 are an RGB picture; what happens to it has to happen to each alike.
    fill(root / "many", lambda: stacked(3)()[..., [0, 1, 2, 0, 2]], name="x.npy")
    for path in (root / "many").rglob("*.npy"):
        save(root / "rgb" / path.relative_to(root / "many"), np.load(path)[..., :3])
    crop = Crop(area=(0.2, 1.0), flip=0.5)
    found = []
    for name, channels in (("many", 5), ("rgb", 3)):
        _, images = linked(root / name, folder / name, channels=channels)
        batches = TrainBatches(images["train"], crop=crop, size=8, seed=3)
        found.append(batches.batch((1, np.arange(4))).images.numpy())
    many, rgb = found
    assert (many[:, :3] == rgb).all()
    assert (many[:, 3:] == rgb[:, [0, 2]]).all()


@pytest.mark.parametrize(
    ("values", "channels", "said"),
    [
        (np.zeros((4, 20, 4), np.uint8), 4, "could be the first axis or the last"),
        (np.zeros((20, 20, 3), np.uint8), 4, "neither first nor last"),
        (np.zeros((2, 20, 20, 4), np.uint8), 4, "a picture has two axes"),
        (np.zeros((20, 20), np.uint8), 4, "it has 1 channel, and dataset.channels is 4"),
        (np.zeros((20, 20, 4), complex), 4, "no numbers of a picture"),
        (np.zeros((0, 20, 4), np.uint8), 4, "0 x 20 x 4, which is empty"),
    ],
)
def test_an_array_that_has_not_those_channels_is_refused(tmp_path, values, channels, said):
    root = tmp_path / "images"
    fill(root, stacked(4), name="x.npy")
    save(root / "val/a/odd.npy", values)
    (root / "val/a/none.npy").touch()
    with pytest.raises(UserError, match=said) as caught:
        linked(root, tmp_path / "data", channels=channels)
    assert "val/a/odd.npy" in str(caught.value)
    assert "val/a/none.npy (zero bytes)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_several_pictures_in_colour_the_first_is_read_whatever_channels_says(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, stacked(3), name="x.png")
    for path in root.rglob("*.png"):
        image = Image.open(path)
        image.save(path.with_suffix(".tif"), save_all=True, append_images=[image.rotate(180)])
        path.unlink()
    _, images = linked(root, folder, channels=3)
    for path, pixels in seen(images["val"]).items():
        assert (pixels == middle(made[path.replace(".tif", ".png")])).all()


def test_a_tiff_of_more_channels_says_what_to_set(tmp_path):
    root = tmp_path / "images"
    for path, values in fill(root, stacked(5), name="x.tif").items():
        tifffile.imwrite(root / path, values, photometric="minisblack", planarconfig="contig")
    with pytest.raises(UserError, match=r"8 unreadable.* so many: dataset\.channels: 5"):
        linked(root, tmp_path / "data")


def test_bands_have_windows_of_their_own_and_those_of_rgb_share_one(tmp_path):
    def bands():
        return draws(channels=4, high=100) * np.array([1, 10, 100, 500], np.uint16)

    made = fill(tmp_path / "four", bands, name="x.npy")
    _, images = linked(tmp_path / "four", tmp_path / "data4", channels=4, scale="range")
    train = np.stack([each for path, each in made.items() if path.startswith("train")])
    lows, highs = train.min(axis=(0, 1, 2)), train.max(axis=(0, 1, 2))
    assert images["val"].reading.window == tuple(zip(lows, highs, strict=True))
    fill(tmp_path / "rgb", lambda: bands()[..., :3], name="x.png")
    _, images = linked(tmp_path / "rgb", tmp_path / "data3", scale="range")
    assert len(images["val"].reading.window) == 1


def test_arrays_are_no_images_before_channels_says_so(tmp_path):
    root = tmp_path / "images"
    fill(root, stacked(3), name="x.png")
    save(root / "train/a/features.npy", np.zeros((3, 4, 4), np.uint8))
    _, images = linked(root, tmp_path / "data")
    assert len(images["train"]) == 4
    for path in root.rglob("*.png"):
        path.unlink()
    save(root / "val/a/features.npy", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(
        UserError, match=r"no images; .* \(NumPy's \.npy are images where dataset.ch"
    ):
        linked(root, tmp_path / "data")
    (root / "val/a/features.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"features\.npy \(zero bytes\)"):
        linked(root, tmp_path / "data", channels=3)


EXPERIMENT = {
    "dataset": {"channels": 4, "image_size": 16},
    "model": {"stem_stride": 1, "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}},
    "evaluate": {"resize": 16, "crop": 16},
}
RGB_ALONE = {
    "loader: dali": {"loader": "dali"},
    "finetune.randaugment": {"finetune": {"randaugment": {}}},
    "pretrain.c: task simclr": {"pretrain": {"c": {"task": "simclr"}}},
    "evaluate.corruptions.kinds: jpeg": {"evaluate": {"corruptions": {}}},
    "finetune.mean has 2 numbers": {"finetune": {"mean": [0.5, 0.5]}},
    "'in_chans' is set by dataset.channels": {"model": {"options": {"in_chans": 5}}},
}


@pytest.mark.parametrize("said", RGB_ALONE)
def test_what_is_for_rgb_alone_is_refused_before_training(said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        parse(Experiment, EXPERIMENT | RGB_ALONE[said], where="test")


@pytest.mark.parametrize("model", ["resnet18", None, ["resnet18"]])
def test_a_model_that_is_none_is_told_whatever_the_channels(model):
    with pytest.raises(UserError, match="model"):
        parse(Experiment, {"dataset": {"channels": 4}, "model": model}, where="mine.yaml")


@pytest.mark.parametrize("name", ["a.npy", "A.NPY"])
def test_init_finds_the_channels_of_arrays(tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        np.save(file, draws(channels=5))
    assert channels_of(some_of(tmp_path)) == 5
    for number in range(2):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.png")
    assert channels_of(some_of(tmp_path)) is None  # it is something else about those pictures


def test_an_experiment_knows_its_channels_however_it_is_written():
    experiment = parse(Experiment, EXPERIMENT, where="test")
    assert experiment.model.channels == 4
    assert parse(Experiment, experiment.model_dump(), where="test") == experiment
    assert experiment.model.options["layers"] == [1, 1, 1, 1]
    assert "in_chans" not in dumps(Experiment())
    assert parse(Experiment, {"dataset": {"channels": 3}}, where="test").model == Experiment().model


@pytest.mark.parametrize(
    "task",
    [
        {"task": "mfm", "recipe": "paper"},
        {"task": "mfm", "recipe": "upstream"},
        {"task": "autoencode"},
        {"task": "denoise"},
        {"task": "simmim"},
        {"task": "supervised"},
    ],
    ids=lambda task: task.get("recipe", task["task"]),
)
def test_a_pretraining_a_finetuning_and_an_evaluation_of_four_channels(tmp_path, task):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, stacked(4), name="x.npy", train=4)
    linked(root, folder, channels=4)
    short = {"epochs": 1, "batch": 4, "crop": {"size": 16}}
    values = EXPERIMENT | {
        "pretrain": {"p": task | short},
        "arms": {"scratch": "scratch", "p": {"pretrain": "p"}},
        "finetune": short,
    }
    experiment = parse(Experiment, values, where="test")
    pretraining = resolve.pretrain_job(experiment, "p", 0)
    backbone = trained(pretraining, folder, tmp_path / "run", "scratch") / "backbone.safetensors"
    finetuning = resolve.finetune_job(experiment, "p", 0)
    classifier = trained(finetuning, folder, tmp_path / "fine", str(backbone))
    images = manifest.load(folder / manifest.NAME, "val")
    model = create_backbone(experiment.model, classes=2, image_size=16)
    load_weights(model, classifier / "model.safetensors")
    job = resolve.evaluate_job(experiment)
    process = Process(rank=0, world=1, device=torch.device("cpu"))
    subject = Subject(model=model, images=images, job=job, process=process, workers=0)
    assert len(subject.predict().predictions) == 4


def trained(job, data, folder, weights):
    folder.mkdir()
    (folder / "config.json").write_text(dumps(job))
    run(
        job,
        config=folder / "config.json",
        weights=weights,
        manifest_path=data / manifest.NAME,
        operation=Operation(run=folder, workers=0, checkpoint_epochs=1),
        process=Process(rank=0, world=1, device=torch.device("cpu")),
    )
    return folder


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_are_normalised_alike_and_luminance_is_their_mean(channels):
    images = torch.rand(2, channels, 8, 8)
    paper = MaskedFrequencyModeling(recipe="paper", radius=2.0, channels=channels)
    assert paper.out_channels == channels
    expected = (images - sum(IMAGENET_MEAN) / 3) / (sum(IMAGENET_STD) / 3)
    torch.testing.assert_close(paper.target(images), expected)
    upstream = MaskedFrequencyModeling(radius=2.0, channels=channels)
    expected = (images.mean(dim=1, keepdim=True) - 0.4) / 0.2
    torch.testing.assert_close(upstream.target(images), expected)


@pytest.mark.parametrize("channels", [1, 4])
def test_weights_of_rgb_are_made_to_fit_as_timm_does(channels):
    rgb = timm.create_model("resnet18", num_classes=0)
    ours = create_backbone(Model(options={"in_chans": channels}), classes=2)
    report = load_backbone(
        ours,
        rgb.state_dict(),
        source="RGB",
        origin=Origin(normalisation=((0.5,) * 3, (0.5,) * 3)),
        normalisation=((0.4,) * channels, (0.2,) * channels),
    )
    assert f"made for {channels} channels" in str(report)
    [left] = report.unfitted
    assert left.startswith("trained on images normalised with mean [0.5, 0.5, 0.5]")
    expected = timm.models.adapt_input_conv(channels, rgb.conv1.weight)
    assert torch.equal(ours.conv1.weight, expected)
    if channels == 1:  # a grey picture gives what it gave as RGB
        grey = torch.rand(2, 1, 32, 32)
        torch.testing.assert_close(ours.conv1(grey), rgb.conv1(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_figures_and_thumbnails_show_pictures_of_any_channels(tmp_path, channels):
    figure, panels = grid(1, 1, "title")
    values = torch.rand(channels, 8, 8)
    show(panels[0, 0], values, values)
    figure.savefig(tmp_path / "figure.png")
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, stacked(channels), name="x.npy")
    linked(root, folder, channels=channels)
    thumbnail = Thumbnails(folder / manifest.NAME, "val")["val/a/0x.npy"]
    assert thumbnail.missing == ""
    content = base64.b64decode(thumbnail.source.split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    expected = made["val/a/0x.npy"][..., : 3 if channels >= 3 else 1]
    assert (pixels == np.broadcast_to(expected, pixels.shape)).all()
