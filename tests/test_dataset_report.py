import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mfm.__main__ import main
from mfm.data.linking import manifest
from mfm.data.pictures.reading import Reading
from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.objectives.mfm.energy import energy_shares
from mfm.reporting import dataset, dataset_text
from mfm.settings.section import dumps, parse

SIZE = 16


def draw(path, seed, *, size=(20, 24), mode="RGB", **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **more)


def run(**changes):
    values = {
        "dataset": {"name": "own", "source": "generated", "image_size": SIZE},
        "pretrain": {
            "a": {"task": "mfm", "recipe": "upstream", "radius": 3},
            "b": {"task": "mfm", "recipe": "paper", "crop": {"size": 32}},
            "labels": {"task": "supervised", "mean": [0.5, 0.5, 0.5]},
        },
        "arms": {name: {"pretrain": name} for name in ("a", "b", "labels")},
        "baseline": "a",
    }
    values["dataset"] |= changes
    experiment = parse(Experiment, values, where="test")
    return resolve.dataset_report_job(experiment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for label, name in enumerate(("ape", "bee")):
        for number in range(6 + 3 * label):
            draw(folder / f"train/{name}/{number}.png", 100 * label + number)
        for number in range(4):
            draw(folder / f"val/{name}/{number}.png", 1000 + 100 * label + number)
    train = folder / "train"
    draw(train / "ape/grey.jpg", 7, mode="L")
    draw(train / "ape/small.png", 8, size=(10, 40))
    draw(train / "bee/clear.png", 9, mode="RGBA")
    deep = np.arange(480, dtype=np.uint16).reshape(24, 20)
    Image.fromarray(deep).save(train / "bee/deep.png")
    draw(train / "bee/really_a_png.JPEG", 10, format="PNG")
    turned = Image.Exif()
    turned[0x0112] = 6
    draw(train / "bee/turned.jpg", 11, exif=turned)
    shutil.copy(train / "ape/0.png", train / "ape/copy.png")
    shutil.copy(train / "ape/1.png", train / "bee/contradicts.png")
    shutil.copy(train / "bee/2.png", folder / "val/bee/leak.png")
    (train / "bee/empty.png").touch()
    (train / "bee/notes.txt").write_text("hello")
    # From 0 to 255: as Pillow clips it.
    manifest.write(folder, reading=Reading(on_bad_image="skip", scale=(0, 255)))
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return dataset.describe(run(on_bad_image="skip"), folder / "manifest.parquet")


def test_counts_of_images_and_classes(report):
    train, val = report["splits"]["train"], report["splits"]["val"]
    assert (train["images"], val["images"]) == (23, 9)
    assert train["classes"]["smallest"] == {"ape": 9, "bee": 14}
    assert train["classes"]["largest_share"] == pytest.approx(14 / 23)
    assert val["classes"]["per_class"]["max"] == 5
    assert train["modes"] == {"RGB": 20, "I;16": 1, "L": 1, "RGBA": 1}
    assert train["formats"] == {"PNG": 21, "JPEG": 2}
    assert (train["width"]["min"], train["width"]["max"]) == (10, 20)
    assert train["height"]["median"] == 24
    assert train["smaller"] == 1
    assert train["bytes"] > 20_000


def test_identical_files_within_and_across(report):
    found = report["identical"]
    assert found["copies_in_train"] == 2
    assert found["contradicting_in_train"] == 2
    assert found["across"] == {"val in train": 1}
    assert found["groups"]["number"] == 3
    assert sorted(found["groups"]["listed"]) == [
        ["train/ape/0.png", "train/ape/copy.png"],
        ["train/ape/1.png", "train/bee/contradicts.png"],
        ["train/bee/2.png", "val/bee/leak.png"],
    ]


def test_files_that_are_left_out_or_misnamed(report):
    assert report["left_out"]["kinds"] == {"zero bytes": 1, "other file": 1}
    paths = [row["path"] for row in report["left_out"]["listed"]]
    assert sorted(paths) == ["train/bee/empty.png", "train/bee/notes.txt"]
    assert report["misnamed"] == {"number": 1, "listed": ["train/bee/really_a_png.JPEG"]}


def test_the_constants_of_every_normalisation(report):
    constants = report["normalisations"]
    assert constants["pretrain.a"] == {"mean": [0.4] * 3, "std": [0.2] * 3}
    assert constants["pretrain.b"]["mean"] == [0.485, 0.456, 0.406]
    assert constants["pretrain.labels"]["mean"] == [0.5] * 3
    assert constants["finetune"]["std"] == [0.229, 0.224, 0.225]


def reference_pixels(path, size):
    """Short side to `size`, centre crop, by Pillow: float64 [size, size, 3]."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    width, height = (int(size * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + size, top + size))) / 255


def test_pixel_statistics_against_numpy(folder, report):
    files = [f for f in (folder / "train").rglob("*.*") if f.suffix != ".txt" and f.stat().st_size]
    pixels = np.stack([reference_pixels(path, SIZE) for path in files])
    sample = report["sample"]["train"]
    assert sample["images"] == len(files) == 23
    assert sample["rotated_by_exif"] == 1
    np.testing.assert_allclose(sample["mean"], pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(sample["std"], pixels.std(axis=(0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize(("name", "size", "radius"), [("a", SIZE, 3.0), ("b", 32, 16 * 32 / 224)])
def test_energy_inside_the_radius_against_numpy(folder, report, name, size, radius):
    found = report["sample"]["train"]["pretrainings"][name]
    assert found["size"] == size
    assert found["constants"] == {
        "radius": f"{radius:.3g}",
        "16 at 224 px, scaled to this size": f"{16 * size / 224:.3g}",
    }
    assert found["title"].startswith("masked frequency modeling")
    assert "Energy" in found["note"]
    row, column = np.mgrid[:size, :size] - size // 2
    inside, zero = row**2 + column**2 < radius**2, (row == 0) & (column == 0)
    shares = []
    for path in (folder / "train").rglob("*.*"):
        if path.suffix == ".txt" or not path.stat().st_size:
            continue
        image = reference_pixels(path, size)
        if name == "a":
            target = ((image - 0.4) / 0.2 @ [0.299, 0.587, 0.114])[..., None]
        else:
            target = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        spectrum = np.fft.fftshift(np.fft.fft2(target, axes=(0, 1)), axes=(0, 1))
        energy = (np.abs(spectrum) ** 2).sum(axis=2)
        shares.append(
            (
                energy[inside].sum() / energy.sum(),
                energy[inside & ~zero].sum() / energy[~zero].sum(),
            )
        )
    expected = np.mean(shares, axis=0)
    assert list(found["shares"]) == ["energy inside the radius", "without the mean"]
    np.testing.assert_allclose(list(found["shares"].values()), expected, rtol=1e-5)


def test_a_pretraining_that_says_nothing_of_images_is_left_out(report):
    assert list(report["sample"]["train"]["pretrainings"]) == ["a", "b"]


def test_a_constant_image_has_no_contrast():
    shares = energy_shares(torch.full((1, 3, 8, 8), 0.3, dtype=torch.float64), 2.0)
    assert shares[0, 0] == pytest.approx(1)
    assert shares[0, 1].isnan()


def test_a_share_that_no_image_has_is_none(tmp_path):
    for split in ("train", "val"):
        path = tmp_path / split / "ape/0.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE), (40 if split == "val" else 90,) * 3).save(path)
    manifest.write(tmp_path)
    found = dataset.describe(run(), tmp_path / "manifest.parquet")
    shares = found["sample"]["train"]["pretrainings"]["a"]["shares"]
    assert shares == {"energy inside the radius": pytest.approx(1), "without the mean": None}


def test_the_text_names_what_to_look_at(report):
    text = dataset_text.render(report)
    look = text.split("## To look at")[1].split("##")[0]
    for part in (
        "Images of val that are also in train: 1",
        "Training images that also lie in another class of train: 2",
        "Images of train with more than 8 bits a value: 1",
        "Images of train with transparency: 1",
        "Images of train with a side below 16 pixels, to be enlarged: 1",
        "Sampled images of train that ask by EXIF to be turned: 1 of 23",
        "train/bee/really_a_png.JPEG",
        "Unreadable images, left out: 1",
    ):
        assert part in look
    assert "train/bee/2.png = val/bee/leak.png" in text
    assert "- zero bytes: 1\n  - train/bee/empty.png\n" in text
    assert "- other file: 1\n  - train/bee/notes.txt\n" in text


def test_the_command_line_leaves_both_files(tmp_path, monkeypatch):
    for name in ("ape", "bee"):
        for split, seed in (("train", 0), ("val", 50)):
            draw(tmp_path / split / name / "0.png", seed + len(name) + ord(name[0]))
    manifest.write(tmp_path)
    (tmp_path / "c.json").write_text(dumps(run()))
    words = ["mfm", "dataset", "--config", str(tmp_path / "c.json")]
    words += ["--manifest", str(tmp_path / "manifest.parquet")]
    words += ["--markdown", str(tmp_path / "d.md"), "--json", str(tmp_path / "d.json")]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert json.loads((tmp_path / "d.json").read_text())["splits"]["train"]["images"] == 2
    text = (tmp_path / "d.md").read_text()
    assert "## To look at\n\n- val has only 2 images: each is 50 points of top-1" in text
    assert "None: every file" in text


def test_unlabelled_images_are_described_beside_the_others(tmp_path):
    for split, seed in (("train", 0), ("val", 1)):
        draw(tmp_path / split / "ape/0.png", seed)
    draw(tmp_path / "pretrain/any/depth/x.png", 1)
    draw(tmp_path / "pretrain/y.png", 2)
    manifest.write(tmp_path, splits=("train", "val", "pretrain"))
    found = dataset.describe(run(unlabelled="pool"), tmp_path / "manifest.parquet")
    assert found["splits"]["pretrain"]["images"] == 2
    assert found["identical"]["across"] == {
        "val in train": 0,
        "val in pretrain": 1,
        "train in pretrain": 0,
    }
    assert found["sample"]["pretrain"]["images"] == 2
    text = dataset_text.render(found)
    assert "Images of val that are also among the unlabelled images: 1" in text
    assert "| pretrain (unlabelled) | 2 |" in text
