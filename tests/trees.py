"""Folders of pictures such as people have them, by name, made small and fast."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

TREES: dict[str, Callable[[Path], None]] = {}


def tree(make: Callable[[Path], None]) -> Callable[[Path], None]:
    TREES[make.__name__] = make
    return make


def picture(path: Path, label: int, number: int, *, side: int = 40, mode: str = "RGB") -> None:
    """Stripes of a class's own width, with a place and a colour of the picture's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng((label, number, side))
    x = np.arange(side) + draws.integers(side)
    stripes = 127 + 80 * np.sin(2 * np.pi * (label + 1) * x / side)
    pixels = np.clip(stripes[None, :, None] + draws.normal(0, 15, (side, side, 1)), 0, 255)
    pixels = np.clip(pixels * draws.uniform(0.6, 1, 3), 0, 255).astype(np.uint8)
    options = {} if path.suffix != ".jpg" else {"quality": 80}
    Image.fromarray(pixels).convert(mode).save(path, **options)


def fill(
    root: Path, counts: Mapping[str, int], *, split: str = "", ending: str = "png", **look: object
) -> None:
    start = {"train": 0, "val": 100_000}.get(split, 0)
    for label, (name, count) in enumerate(counts.items()):
        for number in range(count):
            path = root / split / name / f"{number}.{ending}"
            picture(path, label, start + number, **look)


def both(root: Path, train: Mapping[str, int], val: Mapping[str, int], **look: object) -> None:
    fill(root, train, split="train", **look)
    fill(root, val, split="val", **look)


@tree
def tiny(root: Path) -> None:
    fill(root, {"a": 4, "b": 4})


@tree
def usual(root: Path) -> None:
    both(root, {"cats": 60, "dogs": 60}, {"cats": 30, "dogs": 30}, ending="jpg", side=120)


@tree
def without_val(root: Path) -> None:
    fill(root, {"ape": 50, "bee": 40, "cat": 30}, ending="jpg", side=100)


@tree
def train_alone(root: Path) -> None:
    fill(root, {"ape": 50, "bee": 40}, split="train", side=64)


@tree
def uneven(root: Path) -> None:
    fill(root, {"common": 200, "rare": 12, "rarest": 3}, side=32)


@tree
def grey(root: Path) -> None:
    fill(root, {"a": 60, "b": 60, "c": 60}, mode="L", side=64)


@tree
def two_classes(root: Path) -> None:
    both(root, {"ill": 80, "well": 80}, {"ill": 50, "well": 50}, side=96)


@tree
def many_classes(root: Path) -> None:
    fill(root, {f"class {number:03d}": 6 for number in range(200)}, side=32)


@tree
def few_labels(root: Path) -> None:
    both(root, {"a": 10, "b": 10}, {"a": 50, "b": 50}, side=48)
    for number in range(400):
        picture(root / "unlabelled" / f"batch{number % 3}" / f"{number}.png", 0, 7_000 + number)


@tree
def small_28(root: Path) -> None:
    fill(root, {str(digit): 60 for digit in range(10)}, side=28, mode="L")


@tree
def large_3000(root: Path) -> None:
    fill(root, {"a": 6, "b": 6}, side=300, ending="jpg")
    for path in root.rglob("*.jpg"):
        Image.open(path).resize((3000, 3000), Image.Resampling.NEAREST).save(path, quality=80)


@tree
def sixteen_bit(root: Path) -> None:
    fill(root, {"a": 30, "b": 30}, side=64)
    for path in list(root.rglob("*.png")):
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 200
        Image.fromarray(values).save(path)


@tree
def four_channels(root: Path) -> None:
    draws = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(30):
            np.save(root / name / f"{number}.npy", draws.normal(size=(4, 40, 48)))


@tree
def sixteen_bit_val(root: Path) -> None:
    both(root, {"a": 30, "b": 30}, {"a": 20, "b": 20}, side=64)
    for path in list((root / "val/a").glob("1*.png")):
        Image.fromarray(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257).save(
            path
        )


@tree
def grey_arrays(root: Path) -> None:
    draws = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(30):
            pixels = draws.integers(256, size=(48, 40), dtype=np.uint8)
            np.save(root / name / f"{number}.npy", pixels[..., None] if number % 2 else pixels)


@tree
def mixed_modes(root: Path) -> None:
    for number, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1", "LA")):
        ending = "jpg" if mode == "CMYK" else "png"
        for label, name in enumerate(("a", "b")):
            for copy in range(10):
                path = root / name / f"{mode}{copy}.{ending}"
                picture(path, label, 100 * number + copy, mode=mode, side=50)


@tree
def one_broken(root: Path) -> None:
    fill(root, {"a": 40, "b": 40}, side=64, ending="jpg")
    path = root / "a/3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    (root / "b/empty.jpg").touch()


@tree
def copies(root: Path) -> None:
    fill(root, {"a": 40, "b": 40}, side=64)
    for number in range(8):
        shutil.copy(root / f"a/{number}.png", root / f"a/copy{number}.png")
        shutil.copy(root / f"a/{number}.png", root / f"b/also{number}.png")


@tree
def val_in_train(root: Path) -> None:
    both(root, {"a": 60, "b": 60}, {"a": 50, "b": 50}, side=64)
    for number in range(5):
        shutil.copy(root / f"train/a/{number}.png", root / f"val/a/{number}.png")


@tree
def telephones(root: Path) -> None:
    fill(root, {"a": 40, "b": 40}, side=64, ending="jpg")
    for path in list((root / "b").glob("1*.jpg")):
        image = Image.open(path)
        exif = image.getexif()
        exif[274] = 6
        image.save(path, exif=exif)


@tree
def nested(root: Path) -> None:
    fill(root / "pictures of 2026", {"a": 30, "b": 30}, side=64)
    for path in list((root / "pictures of 2026").rglob("*.png")):
        below = path.parent / f"day {int(path.stem) % 3}" / "camera 1"
        below.mkdir(parents=True, exist_ok=True)
        path.rename(below / path.name)


@tree
def odd_names(root: Path) -> None:
    names = {"ätzend & 'neu'": 30, "#1: {yes}": 30, "null": 30, "0.5": 30}
    fill(root / "Bilder, 5% (neu)", names, side=48)
    for path in list(root.rglob("1*.png")):
        path.rename(path.with_name(f"{path.stem} [x] #é.png"))


@tree
def with_rubbish(root: Path) -> None:
    fill(root, {"a": 40, "b": 40}, side=64)
    (root / ".DS_Store").write_bytes(b"x")
    (root / "README.txt").write_text("mine")
    (root / "a/notes.csv").write_text("x,y\n")
    picture(root / "beside.png", 0, 9_999)


@tree
def by_a_file(root: Path) -> None:
    lines = ["path;label;group"]
    for number in range(120):
        label = number // 3 % 2
        picture(root / f"scan {number}.png", label, number, side=64)
        lines.append(f"scan {number}.png;{('NA', '007')[label]};patient {number // 6}")
    (root / "labels.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")


# What no experiment can be made of, and what is said of it.
def one_image_a_class(root: Path) -> None:
    fill(root, {f"c{number}": 1 for number in range(20)})


def three_images_a_class(root: Path) -> None:
    fill(root, {"a": 3, "b": 3, "c": 2})


def no_classes(root: Path) -> None:
    for number in range(30):
        picture(root / f"{number}.png", 0, number)


def single_class(root: Path) -> None:
    fill(root, {"only": 30})


def test_for_val(root: Path) -> None:
    fill(root, {"a": 20, "b": 20}, split="train")
    fill(root, {"a": 20, "b": 20}, split="test")


def unlabelled_among_classes(root: Path) -> None:
    fill(root, {"a": 20, "b": 20, "unlabelled": 50})


def classes_that_differ(root: Path) -> None:
    both(root, {"a": 20, "b": 20}, {"a": 20, "c": 20})


def all_broken(root: Path) -> None:
    fill(root, {"a": 20, "b": 20})
    for path in (root / "b").iterdir():
        path.write_bytes(b"")


def capitals(root: Path) -> None:
    fill(root, {"a": 20, "b": 20}, split="Train")
    fill(root, {"a": 20, "b": 20}, split="Val")


def file_without_labels(root: Path) -> None:
    fill(root, {"a": 20, "b": 20})
    (root / "labels.csv").write_text("number,name\n0,a\n1,b\n")


REFUSED = {
    file_without_labels: "it needs path and label, and may have split and group (give that file",
    three_images_a_class: "no class has more than 3 images, some of which dataset.val_fraction",
    one_image_a_class: "no training image ('c0' has 1",
    no_classes: "has no folders of classes, and a comparison needs labels",
    single_class: "there is a single class, 'only'",
    test_for_val: "what is evaluated on is called val: ln -s test ",
    unlabelled_among_classes: "would be one of them: move the classes below",
    classes_that_differ: "only train has 'b', only val has 'c'",
    all_broken: "all images of train/b are unreadable (all of them: data/all_broken/left_out.csv)",
    capitals: "in small letters",
}
