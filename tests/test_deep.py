"""Pictures of other kinds than 8-bit RGB: of more bits, of other channels, to be turned."""

import json
import struct
import sys
import zlib
from itertools import count

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from mfm.data import link, manifest
from mfm.data.batches import EvalBatches
from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.experiment.settings import Experiment
from mfm.settings.section import dumps, parse

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
        tifffile.imwrite(path, values)
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
    "signed.tif": lambda: draws(low=-500, high=500, dtype=np.int16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_8_bits_are_refused_or_scaled_by_the_training_images(tmp_path, kind):
    root, folder = tmp_path / "images", tmp_path / "data"
    made = fill(root, KINDS[kind], name=kind)
    if kind != "double.tif":  # which Pillow doesn't open, so it's no image before one asks
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
    with pytest.raises(UserError, match=r"val/b/bad\.tif: 1 of its 192 values are NaN"):
        linked(root, folder, scale="range")


def test_equal_values_give_no_range(tmp_path):
    root, folder = tmp_path / "images", tmp_path / "data"
    fill(root, lambda: np.full((HEIGHT, WIDTH), 700, np.uint16))
    save(root / "val/a/0x.png", draws())
    with pytest.raises(UserError, match=r"dataset\.scale is range.* all 700: give \[low, high\]"):
        linked(root, folder, scale="range")


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
