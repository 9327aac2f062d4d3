"""Every mode and format of image file: its facts in the manifest, and its pixels in a batch."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mfm.data.linking import manifest
from mfm.data.loading.batches import EvalBatches, TrainBatches
from mfm.data.pictures.reading import Reading
from mfm.data.settings import Crop, RandAugment

SIDE = 16
ORANGE = (240, 130, 20)


def saved(image, image_format, **more):
    file = io.BytesIO()
    image.save(file, image_format, **more)
    return file.getvalue()


def flat(mode, colour):
    return Image.new(mode, (SIDE, SIDE), colour)


def ycck():
    """An Adobe JPEG whose four channels are luminance, two chromas and black.

    Pillow writes CMYK only, so the marker that says what the channels are is changed. In such a
    file luminance 200 with neutral chroma is 200 of 255 parts of each ink, so grey 55.
    """
    stored = [255 - value for value in (200, 128, 128, 255)]  # Pillow writes CMYK inverted
    content = bytearray(saved(flat("CMYK", tuple(stored)), "JPEG", quality=100))
    transform = content.index(b"Adobe") + len(b"Adobe") + 6
    assert content[transform] == 0
    content[transform] = 2
    return bytes(content)


def palette():
    image = flat("P", 1)
    image.putpalette([0, 0, 0, *ORANGE])
    return saved(image, "PNG")


def deep(value):
    return saved(Image.fromarray(np.full((SIDE, SIDE), value, np.uint16)), "PNG")


def turned():
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[: SIDE // 2] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # "to be shown turned by 90 degrees"
    return saved(Image.fromarray(pixels), "JPEG", quality=100, exif=exif)


# name: content, mode, format, colour (None: another test's), tolerance
FILES = {
    "grey.jpg": (saved(flat("L", 90), "JPEG"), "L", "JPEG", (90, 90, 90), 1),
    "cmyk.jpg": (saved(flat("CMYK", (255, 0, 0, 0)), "JPEG"), "CMYK", "JPEG", (0, 255, 255), 2),
    "dark.jpg": (saved(flat("CMYK", (0, 0, 0, 204)), "JPEG"), "CMYK", "JPEG", (51, 51, 51), 2),
    "ycck.jpg": (ycck(), "CMYK", "JPEG", (55, 55, 55), 2),
    "palette.png": (palette(), "P", "PNG", ORANGE, 0),
    "alpha.png": (saved(flat("RGBA", (*ORANGE, 7)), "PNG"), "RGBA", "PNG", ORANGE, 0),
    "grey_alpha.png": (saved(flat("LA", (80, 7)), "PNG"), "LA", "PNG", (80, 80, 80), 0),
    "one_bit.png": (saved(flat("1", 1), "PNG"), "1", "PNG", (255, 255, 255), 0),
    "deep_dark.png": (deep(100), "I;16", "PNG", (100, 100, 100), 0),
    "deep_bright.png": (deep(1000), "I;16", "PNG", (255, 255, 255), 0),  # cut off, as asked
    "progressive.jpg": (
        saved(flat("RGB", ORANGE), "JPEG", quality=95, progressive=True),
        "RGB",
        "JPEG",
        ORANGE,
        3,
    ),
    "a_png.JPEG": (saved(flat("RGB", ORANGE), "PNG"), "RGB", "PNG", ORANGE, 0),
    "lossless.webp": (saved(flat("RGB", ORANGE), "WEBP", lossless=True), "RGB", "WEBP", ORANGE, 0),
    "turned.jpg": (turned(), "RGB", "JPEG", None, 0),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        (folder / split / "one").mkdir(parents=True)
        for name, (content, *_) in FILES.items():
            (folder / split / "one" / name).write_bytes(content)
    for name, size in (("dot.png", (1, 1)), ("line.png", (1, 40)), ("large.jpg", (12_000, 9_000))):
        (folder / "train/one" / name).write_bytes(
            saved(Image.new("L", size, 77), name.replace("jpg", "jpeg").split(".")[1])
        )
    manifest.write(folder, reading=Reading(scale=(0, 255)))
    return {split: manifest.load(folder / "manifest.parquet", split) for split in ("train", "val")}


def position(images, name):
    return next(k for k in range(len(images)) if images.path(k).name == name)


def pixels(images, name, *, size=SIDE):
    """uint8 [size, size, 3]: an image of that size as it is, a larger one resized."""
    batches = EvalBatches(images, resize=size, crop=size, interpolation="bilinear")
    batch = batches.batch((0, np.array([position(images, name)])))
    return batch.images[0].permute(1, 2, 0).numpy()


def rows(images):
    table = pq.read_table(images.root / "manifest.parquet").to_pylist()
    return {row["path"].split("/")[-1]: row for row in table if row["split"] == "train"}


@pytest.mark.parametrize("name", FILES)
def test_the_manifest_says_what_a_file_is(images, name):
    _, mode, image_format, _, _ = FILES[name]
    row = rows(images["train"])[name]
    assert (row["mode"], row["format"], row["width"], row["height"]) == (
        mode,
        image_format,
        SIDE,
        SIDE,
    )


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillows_conversion(images, name):
    content, _, _, colour, tolerance = FILES[name]
    found = pixels(images["val"], name)
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
    if colour is not None:
        assert np.abs(found.astype(int) - colour).max() <= tolerance


def test_rotation_by_exif_is_not_applied(images):
    found = pixels(images["val"], "turned.jpg")
    assert found[: SIDE // 2].min() > 250
    assert found[SIDE // 2 :].max() < 5


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_smallest_and_the_largest_images(images):
    train = images["train"]
    assert (pixels(train, "dot.png") == 77).all()
    assert (pixels(train, "line.png") == 77).all()
    large = rows(train)["large.jpg"]
    assert (large["width"], large["height"]) == (12_000, 9_000)
    assert (pixels(train, "large.jpg") == 77).all()


def test_every_file_can_be_cropped_and_augmented(images):
    train = images["train"]
    batches = TrainBatches(
        train,
        crop=Crop(area=(0.05, 1.0)),
        size=SIDE,
        seed=0,
        randaugment=RandAugment(),
    )
    small = [k for k in range(len(train)) if train.path(k).name != "large.jpg"]
    for epoch in range(3):
        assert batches.batch((epoch, np.array(small))).images.shape == (len(small), 3, SIDE, SIDE)
