"""Counts by names: at most as many are images, and no more is counted than is asked."""

import pytest

from mfm.data import counts
from mfm.data.counts import Enough, count
from mfm.data.settings import Dataset

ALL = Enough(together=1000, in_a_class=1000)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "images"
    for split, name, number in (("train", "ape", 5), ("train", "bee/deeper", 7), ("val", "ape", 1)):
        folder = root / split / name
        folder.mkdir(parents=True)
        for k in range(number):
            (folder / f"{k}.png").touch()
    (root / "train/bee/.hidden.png").touch()
    (root / "train/.thumbnails").mkdir()
    (root / "train/loose.png").touch()
    return root


def of(source, **changes):
    return Dataset(name="own", source=str(source), **changes)


def test_files_are_counted_by_class(source):
    assert count(of(source), ALL) == {
        "train": {"images": 12, "per_class": {"ape": 5, "bee": 7}},
    }
    found = count(of(source, unlabelled=str(source)), ALL)
    assert found["pretrain"] == {"images": 14}


@pytest.mark.parametrize(
    ("together", "in_a_class", "holdout", "found"),
    [
        (1, 1, 0, {"ape": 1, "bee": 1}),
        (6, 2, 0, {"ape": 5, "bee": 2}),
        (4, 2, 0, {"ape": 4, "bee": 2}),
        (4, 1, 3, {"ape": 5, "bee": 5}),  # 2 and 2 are left
    ],
)
def test_no_more_is_counted_than_is_asked(source, together, in_a_class, holdout, found):
    asked = Enough(together=together, in_a_class=in_a_class)
    counted = count(of(source, holdout_per_class=holdout), asked)
    assert counted["train"]["per_class"] == found


def test_what_names_do_not_tell_is_not_known(source, monkeypatch):
    assert count(of("torchvision/CIFAR10"), ALL) is None
    assert count(of(source / "nowhere"), ALL) is None
    monkeypatch.setattr(counts, "_SECONDS", -1)
    assert count(of(source), ALL) is None
    monkeypatch.undo()
    (source / "train/ape/loop").symlink_to(source / "train/ape")
    assert count(of(source), ALL) is None


@pytest.mark.parametrize(("name", "images"), [("fashion-mnist", 60_000), ("generated", 128)])
def test_built_in_datasets_are_known(name, images):
    assert count(of(name), ALL)["train"]["images"] == images
