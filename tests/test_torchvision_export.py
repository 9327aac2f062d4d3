import hashlib
import json
import os
import pickle
import urllib.error
import urllib.request

import numpy as np
import pytest
import torchvision
from PIL import Image

from mfm.data.linking import link, manifest
from mfm.data.settings import Dataset
from mfm.data.sources.named import check_source
from mfm.errors import UserError


def linked(tmp_path, name, *, archives):
    source = f"torchvision/{name}"
    link.link(
        Dataset(name="own", source=source, archives=archives and str(archives)),
        tmp_path / "data",
    )
    path = tmp_path / "data/manifest.parquet"
    return manifest.load(path, "train"), manifest.load(path, "val")


def complaint(tmp_path, name, *, archives=None):
    with pytest.raises(UserError) as caught:
        linked(tmp_path, name, archives=archives)
    assert not (tmp_path / "data/manifest.parquet").exists()
    return str(caught.value)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10's documented files, with few images."""
    folder = tmp_path / "root/cifar-10-batches-py"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    pixels, sums = {}, {}
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]
    contents = {"batches.meta": {"label_names": names}}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        pixels[name] = draw.integers(0, 256, (20, 3072), dtype=np.uint8)
        contents[name] = {"data": pixels[name], "labels": [k % 10 for k in range(20)]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(
        kind, "train_list", [[f"data_batch_{k}", sums[f"data_batch_{k}"]] for k in (1, 2)]
    )
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums["batches.meta"]})
    return tmp_path / "root", pixels


def test_cifar_becomes_class_folders_of_the_same_pixels(tmp_path, cifar):
    root, pixels = cifar
    train, val = linked(tmp_path, "CIFAR10", archives=root)
    assert (len(train), len(val)) == (40, 20)
    assert train.classes[:2] == ("0-airplane", "1-automobile")
    assert train.path(0).name == "00.png"
    for images, stored in (
        (train, np.concatenate([pixels["data_batch_1"], pixels["data_batch_2"]])),
        (val, pixels["test_batch"]),
    ):
        for position in range(len(images)):
            number = int(images.path(position).stem)
            assert images.labels[position] == number % 10
            expected = stored[number].reshape(3, 32, 32).transpose(1, 2, 0)
            np.testing.assert_array_equal(np.asarray(Image.open(images.path(position))), expected)


def test_an_exported_dataset_is_not_exported_again(tmp_path, cifar):
    train, _ = linked(tmp_path, "CIFAR10", archives=cifar[0])
    before = train.path(0).stat().st_mtime_ns
    for path in cifar[0].rglob("*batch*"):
        if path.is_file():
            path.unlink()
    train, _ = linked(tmp_path, "CIFAR10", archives=cifar[0])
    assert train.path(0).stat().st_mtime_ns == before


def test_files_are_linked_where_the_dataset_has_them(tmp_path):
    """Food-101 in its documented format: images/<class>/<number>.jpg and meta/<split>.json."""
    root = tmp_path / "root/food-101"
    meta = {"train": {}, "test": {}}
    for name in ("apple_pie", "baby_back_ribs"):
        (root / "images" / name).mkdir(parents=True)
        for number in range(4):
            path = root / "images" / name / f"{number}.jpg"
            Image.new("RGB", (30, 20), (number * 50, 0, len(name))).save(path)
            meta["test" if number > 1 else "train"].setdefault(name, []).append(f"{name}/{number}")
    (root / "meta").mkdir()
    for split, names in meta.items():
        (root / f"meta/{split}.json").write_text(json.dumps(names))
    train, val = linked(tmp_path, "Food101", archives=tmp_path / "root")
    assert train.classes == ("0-apple-pie", "1-baby-back-ribs")
    assert (len(train), len(val)) == (4, 4)
    assert os.path.samefile(val.path(2), root / "images/baby_back_ribs/2.jpg")
    assert train.path(0).suffix == ".jpg"


def no_network(*_, **__):
    raise urllib.error.URLError("no route to host")


@pytest.mark.parametrize("name", ["CIFAR10", "Imagenette", "Food101", "Flowers102", "FashionMNIST"])
def test_a_failed_download_is_explained(tmp_path, monkeypatch, name):
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    message = complaint(tmp_path, name)
    assert "\n" not in message
    for part in (f"torchvision/{name}", "network", "dataset.archives", f"datasets.{name}(root"):
        assert part in message


def test_a_dataset_that_is_not_downloaded_at_all_is_explained(tmp_path):
    message = complaint(tmp_path, "ImageNet")
    assert "torchvision does not download it" in message
    assert "datasets.ImageNet(root, split='train')" in message


def test_a_dataset_without_splits_is_told(tmp_path):
    assert "torchvision/EMNIST has no train or trainval" in complaint(tmp_path, "EMNIST")


def test_a_dataset_that_objects_to_something_else_is_not_said_to_lack_a_split(
    tmp_path, monkeypatch
):
    def broken(self, root, split="train", download=False):
        raise ValueError("The original URL is broken")

    stand_in(monkeypatch, __init__=broken)
    message = complaint(tmp_path, "CIFAR10")
    assert "could it be fetched (ValueError: The original URL is broken)" in message


class Standin(torchvision.datasets.VisionDataset):
    """As torchvision's datasets with train, val and test splits and no files of their own."""

    known = ("train", "val", "test")

    def __init__(self, root, split="train", transform=None):
        if split not in self.known:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        super().__init__(root, transform=transform)
        self.split = split

    def __len__(self):
        return 11

    def __getitem__(self, index):
        seed = 100 * self.known.index(self.split) + index
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 4), dtype=np.uint8)
        return Image.fromarray(pixels, mode="CMYK"), np.int64(index % 3)


def stand_in(monkeypatch, **changes):
    kind = type("CIFAR10", (Standin,), changes)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", kind)
    return kind


@pytest.mark.parametrize(
    ("known", "used"),
    [
        (("train", "val", "test"), ("train", "val")),
        (("train", "test"), ("train", "test")),
        (("trainval", "test"), ("trainval", "test")),
        (("train", "valid", "test"), ("train", "valid")),
    ],
)
def test_splits_are_those_that_the_class_knows(tmp_path, monkeypatch, known, used):
    kind = stand_in(monkeypatch, known=known)
    found = linked(tmp_path, "CIFAR10", archives=None)
    for images, split in zip(found, used, strict=True):
        assert images.classes == ("0000", "0001", "0002")
        assert np.bincount(images.labels).tolist() == [4, 4, 3]
        expected = kind("", split=split)[0][0].convert("RGB")
        np.testing.assert_array_equal(np.asarray(Image.open(images.path(0))), np.asarray(expected))


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ((Image.new("RGB", (4, 4)), (1, 2)), "labels an image with tuple"),
        ((Image.new("RGB", (4, 4)), 0.5), "labels an image with float"),
        ((np.zeros((4, 4)), 1), "gives ndarray and not images"),
    ],
)
def test_a_dataset_of_another_task_is_told(tmp_path, monkeypatch, item, told):
    stand_in(monkeypatch, __getitem__=lambda self, index: item)
    assert told in complaint(tmp_path, "CIFAR10")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("torchvision/Imagenete", "no dataset 'Imagenete' (did you mean 'Imagenette'"),
        ("torchvision/cifar10", "no dataset 'cifar10' (did you mean 'CIFAR10'"),
        ("cifar10", "(did you mean 'torchvision/CIFAR10'?)"),
        ("fashion_mnist", "(did you mean 'fashion-mnist'?)"),
        ("torchvision/EuroSAT", "has no training and evaluation images of its own"),
        ("torchvision/Caltech256", "has no training and evaluation images of its own"),
        ("torchvision/FakeData", "has no training and evaluation images of its own"),
        ("torchvision/VOCDetection", "has no training and evaluation images of its own"),
        ("torchvision/StanfordCars", "does not download StanfordCars: set dataset.archives"),
        ("torchvision/ImageNet", "does not download ImageNet: set dataset.archives"),
    ],
)
def test_a_wrong_name_is_told_before_any_job(source, told):
    with pytest.raises(UserError) as caught:
        check_source(Dataset(source=source), linked=False)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "name", ["CIFAR10", "CIFAR100", "KMNIST", "Food101", "STL10", "SVHN", "OxfordIIITPet", "DTD"]
)
def test_a_name_that_torchvision_knows_is_not_refused(name):
    check_source(Dataset(source=f"torchvision/{name}"), linked=False)


def test_files_that_somebody_has_need_no_download(tmp_path):
    check_source(Dataset(source="torchvision/ImageNet", archives=str(tmp_path)), linked=False)
    check_source(Dataset(source="torchvision/ImageNet"), linked=True)
    with pytest.raises(UserError, match=r"dataset\.archives: there is no folder 'nowhere'"):
        check_source(Dataset(source="torchvision/ImageNet", archives="nowhere"))
