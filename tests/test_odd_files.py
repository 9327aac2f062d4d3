"""Files of every kind in a folder of images: told by their content, and by rule."""

import csv
import io
import os
import socket
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from mfm.data.linking import link, manifest
from mfm.data.loading.batches import EvalBatches
from mfm.data.loading.choice import create_loader
from mfm.data.pictures import formats, headers
from mfm.data.pictures.contents import Place
from mfm.data.pictures.headers import Job
from mfm.data.settings import Dataset
from mfm.errors import UserError

NAMES = ("cat", "dog")
JUNK = (".DS_Store", "._x.jpg", "Thumbs.db", "desktop.ini", ".hidden.jpg", "__MACOSX/._0.jpg")
OTHER = {
    "notes.txt": b"hello\n",
    "P6.md": b"P6\nis how it begins\n",  # as a PPM would
    "README": b"# a: b\nwidth 10\n",
    "a.npy": b"\x93NUMPY" + bytes(200),
    "v.mp4": b"\0\0\0\x18ftypmp42" + bytes(300),
    "v.mpg": b"\0\0\x01\xb3" + b"\x10" * 200,
    "x.h5": b"\x89HDF\r\n\x1a\n" + bytes(300),
    "font.ttf": b"\0\1\0\0" + b"\0\5" * 100,
    "empty.txt": b"",
    "random.bin": np.random.default_rng(5).bytes(5000),
}


def drawn(seed, size=(48, 40), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image_format, seed=0, mode="RGB", *, more=0, size=(48, 40)):
    file = io.BytesIO()
    others = [drawn(seed + 1 + number, mode=mode) for number in range(more)]
    kept = {"save_all": True, "append_images": others} if more else {}
    drawn(seed, size, mode).save(file, image_format, **kept)
    return file.getvalue()


def images():
    """Content of images by names that say it, say nothing, or something else."""
    return {
        "a.gif": encoded("GIF", 1),
        "b.jfif": encoded("JPEG", 2),
        "c.avif": encoded("AVIF", 3),
        "d.jp2": encoded("JPEG2000", 4),
        "e.tga": encoded("TGA", 5),
        "f.ico": encoded("ICO", 6, size=(64, 64)),
        "no ending": encoded("PNG", 7),
        "tga": encoded("TGA", 8),
        "wrong.txt": encoded("JPEG", 9),
        "really_a_jpeg.png": encoded("JPEG", 10),
        "bits.tif": encoded("TIFF", 11, "1"),
        "cmyk.jpg": encoded("JPEG", 12, "CMYK"),
        "lab.tif": encoded("TIFF", 13, "LAB"),
        "moving.webp": encoded("WEBP", 14, more=2),
        "moving.gif": encoded("GIF", 15, more=1),
        "pages.tif": encoded("TIFF", 16, more=1),
        "both.mpo": encoded("MPO", 17, more=1),
        "-rf '$HOME' #, \"%\".jpg": encoded("JPEG", 18),
        "line\nbreak\u2028.jpg": encoded("JPEG", 19),
        "caf\u00e9.jpg": encoded("JPEG", 20),
        "cafe\u0301.jpg": encoded("JPEG", 21),
        "appendix.jpg": encoded("JPEG", 22) + b"of some camera",
    }


def bad_files():
    jpeg = encoded("JPEG", 30)
    return {
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut.gif": (encoded("GIF", 31)[:1500], "truncated"),
        "cut": (encoded("PNG", 32)[:1500], "truncated"),
        "cut.webp": (encoded("WEBP", 33)[:300], "unreadable"),
        "archive.jpg": (b"PK\3\4" + bytes(50), "not an image"),
        "page.gif": (b"<html>", "not an image"),
        "empty.jpg": (b"", "zero bytes"),
        "raw.dng": (encoded("TIFF", 34), "unreadable"),
        "drawing.eps": (encoded("EPS", 35), "unreadable"),
        "h.heic": (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(99), "needs a library"),
    }


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "images"
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed = 100 * (split == "val") + 10 * label + number + 50
                (root / split / name / f"{number}.jpg").write_bytes(encoded("JPEG", seed))
    return root


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def linked(root, **more):
    folder = root.parent / "data"
    return link.link(Dataset(name="own", source=str(root), **more), folder), folder


def left_out(folder):
    with open(folder / "left_out.csv", newline="") as file:
        return {row["path"]: row["kind"] for row in csv.DictReader(file)}


def test_images_are_told_by_content_and_both_loaders_read_them(root):
    write(root / "train/cat", images())
    notes, folder = linked(root)
    assert notes == []
    found = manifest.load(folder / "manifest.parquet", "train")
    names = [path.split("/", 2)[2] for path in found.paths.to_pylist()]
    assert set(images()) < set(names)
    batches = EvalBatches(found, resize=32, crop=32, interpolation="bilinear")
    both = []
    for kind in ("torchvision", "dali"):
        loader = create_loader(kind, batches, workers=0, device=torch.device("cpu"))
        [batch] = loader.read(lambda: [(0, np.arange(len(found)))])
        both.append(batch.images.int())
    assert int((both[0] - both[1]).abs().max()) <= 1
    # Only the first picture of a file is used.
    first = Image.open(io.BytesIO(images()["moving.webp"])).convert("RGB")
    first = first.resize((38, 32), Image.Resampling.BILINEAR).crop((3, 0, 35, 32))
    shown = both[0][names.index("moving.webp")].permute(1, 2, 0)
    assert np.array_equal(shown, np.asarray(first, int))


def test_what_is_no_image_is_left_out_and_counted(root):
    write(root / "train/cat", OTHER)
    write(root / "train/dog", dict.fromkeys(JUNK, b"junk"))
    (root / "val/__MACOSX").mkdir()
    write(root / "train", {"loose.jpg": encoded("JPEG", 40), "loose.txt": b"text"})
    [note], folder = linked(root)
    assert note.startswith(f"19 files left out (all of them: {folder}/left_out.csv): loose image 1")
    assert "train/loose.jpg" in note
    assert (
        "other file 11 (no image: train/loose.txt, train/cat/P6.md, train/cat/README, ...)" in note
    )
    assert "system file 7 (hidden, or left" in note
    kinds = left_out(folder)
    assert {path for path, kind in kinds.items() if kind == "other file"} == {
        "train/loose.txt",
        *(f"train/cat/{name}" for name in OTHER),
    }
    assert kinds["train/dog/__MACOSX/"] == kinds["val/__MACOSX/"] == "system file"
    assert linked(root)[0] == [note]


def test_what_is_or_is_named_as_an_image_is_bad_where_it_cannot_be_read(root):
    folder = root / "train/cat"
    write(folder, {name: content for name, (content, _) in bad_files().items()})
    kinds = {f"train/cat/{name}": kind for name, (_, kind) in bad_files().items()}
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as end, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        end.bind("socket.png")
    os.symlink("nowhere", folder / "dangling.jpg")
    os.symlink("loop", folder / "loop")
    kinds |= {f"train/cat/{name}": "not a file" for name in ("pipe.jpg", "socket.png")}
    kinds |= {f"train/cat/{name}": "dangling link" for name in ("dangling.jpg", "loop")}
    with pytest.raises(UserError) as caught:
        linked(root)
    message = str(caught.value)
    assert message.startswith("14 unreadable images: ")
    assert f"{folder}/dangling.jpg (a link to nowhere, which isn't there)" in message
    assert "pip install pillow-heif" in message
    assert left_out(root.parent / "data") == kinds
    [note], where = linked(root, on_bad_image="skip")
    assert note.startswith("14 files left out")
    assert left_out(where) == kinds


def test_pictures_above_pillows_limit_are_named(root, monkeypatch):
    path = root / "train/cat/huge.png"
    Image.new("1", (20000, 9000)).save(path)
    with pytest.raises(UserError, match=r"huge\.png \(180\.0 megapixels, and Pillow's limit is"):
        linked(root)


def test_heic_is_read_with_its_library(tmp_path, monkeypatch):
    """With a stand-in for the library, which the tests do without."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\0\0\0\x1cftypheic" + encoded("PNG"))

    def opened(file, name):
        file.seek(12)
        return Image.open(io.BytesIO(file.read()))

    def register():
        Image.register_open("HEIF", opened, lambda head: head[4:12] == b"ftypheic")

    library = type("pillow_heif", (), {"register_heif_opener": staticmethod(register)})
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", library)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    formats._register_heif.cache_clear()
    facts = headers.read(Job(Place(str(path))))
    assert (facts.width, facts.height) == (48, 40)
    formats._register_heif.cache_clear()


def test_headers_of_files_that_are_no_images_raise_nothing(tmp_path):
    draws = np.random.default_rng(0)
    whole = [*images().values(), *OTHER.values()]
    path = tmp_path / "x"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(300):
            content = bytearray(whole[number % len(whole)])
            for at in draws.integers(0, min(200, max(1, len(content))), 4):
                if content:
                    content[at] = draws.integers(256)
            path.write_bytes(content[: draws.integers(len(content) + 1)])
            headers.read(Job(Place(str(path))))
