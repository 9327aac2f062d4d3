"""Division of a folder without val: which images are val, and what can't be divided."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mfm.data.linking import link, manifest
from mfm.data.linking.division import Division
from mfm.data.linking.selection import share
from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.settings.section import dumps


def folder(root, counts, *, train=""):
    """Class folders of different images, below root/train or root itself."""
    for label, (name, count) in enumerate(counts.items()):
        (root / train / name).mkdir(parents=True)
        for number in range(count):
            colour = (label, number % 256, number // 256)
            Image.new("RGB", (40, 30), colour).save(root / train / name / f"{number}.png")
    return root


def linked(root, target, **keys):
    target.mkdir(exist_ok=True)
    notes = link.link(Dataset(name="own", source=str(root), val_fraction=0.25, **keys), target)
    table = pq.read_table(target / "manifest.parquet").to_pandas()
    return table, notes


@pytest.mark.parametrize("train", ["", "train"])
def test_a_share_of_each_class_is_val_once_and_for_all(tmp_path, train):
    root = folder(tmp_path / "own", {"ape": 12, "bee": 9, "cat": 2}, train=train)
    table, _ = linked(root, tmp_path / "data")
    counts = table.groupby(["class", "split"]).size().to_dict()
    assert counts == {
        ("ape", "train"): 9,
        ("ape", "val"): 3,
        ("bee", "train"): 7,
        ("bee", "val"): 2,
        ("cat", "train"): 1,
        ("cat", "val"): 1,
    }
    assert table["path"].str.startswith("train/").all()
    images = manifest.load(tmp_path / "data/manifest.parquet", "val")
    assert all(images.path(position).is_file() for position in range(len(images)))
    again, _ = linked(root, tmp_path / "again")
    assert again.equals(table)
    other, _ = linked(root, tmp_path / "other", val_seed=1)
    assert set(other[other["split"] == "val"]["path"]) != set(
        table[table["split"] == "val"]["path"]
    )


def test_the_draw_is_of_contents_and_copies_stay_together(tmp_path):
    root = folder(tmp_path / "own", {"ape": 40, "bee": 40})
    before, _ = linked(root, tmp_path / "before")
    val = set(before[before["split"] == "val"]["content"])
    for path in (root / "ape").iterdir():
        path.rename(path.with_name(f"renamed {path.name}"))
    for path in list((root / "ape").iterdir())[:10]:
        shutil.copy(path, root / "ape" / f"copy of {path.name}")
    shutil.copy(next((root / "ape").iterdir()), root / "bee/of another class.png")
    after, notes = linked(root, tmp_path / "after")
    assert after.groupby("content")["split"].nunique().max() == 1
    assert not [note for note in notes if "also in" in note]
    assert len(val & set(after[after["split"] == "val"]["content"])) >= 16


def test_the_holdout_is_taken_from_what_remains(tmp_path):
    root = folder(tmp_path / "own", {"ape": 12, "bee": 12})
    table, _ = linked(root, tmp_path / "data", holdout_per_class=2)
    assert table["split"].value_counts().to_dict() == {"train": 14, "val": 6, "holdout": 4}


def same_file(root):
    for number in range(1, 3):
        shutil.copy(root / "bee/0.png", root / f"bee/{number}.png")


@pytest.mark.parametrize(
    ("counts", "keys", "change", "said"),
    [
        ({"ape": 9, "bee": 1}, {}, None, "no training image ('bee' has 1)"),
        ({"ape": 90, "bee": 3}, {}, same_file, "class 'bee' has too few different images"),
        ({"ape": 9, "bee": 9}, {}, lambda root: (root / "val").mkdir(), "has a folder 'val'"),
        ({"ape": 9, "bee": 9}, {"holdout_per_class": 7}, None, "'ape' has 7, 'bee' has 7"),
        ({"ape": 4, "bee": 4}, {}, None, "val has 2 images of 2 classes"),
    ],
)
def test_what_cannot_be_divided_is_told(tmp_path, counts, keys, change, said):
    root = folder(tmp_path / "own", counts)
    if change is not None:
        change(root)
    with pytest.raises(UserError) as error:
        linked(root, tmp_path / "data", **keys)
    assert said in str(error.value)


def test_unlabelled_images_are_no_class(tmp_path):
    root = folder(tmp_path / "own", {"ape": 9, "bee": 9, "more": 3})
    with pytest.raises(UserError, match="would be one of them: move the classes below"):
        linked(root, tmp_path / "data", unlabelled=str(root / "more"))


def test_a_dataset_that_has_val_is_known_by_the_text_of_earlier_versions():
    assert "val_" not in dumps(Dataset())
    assert "val_fraction" in dumps(Dataset(source="x", val_fraction=0.2))
    with pytest.raises(UserError, match="val_fraction is for a folder of your own"):
        link.link(Dataset(val_fraction=0.2), None)


@given(
    sizes=st.lists(st.integers(2, 60), min_size=1, max_size=5),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**31 - 1),
)
@settings(deadline=None, max_examples=50)
def test_the_share_is_that_of_each_class(sizes, fraction, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    contents = np.random.default_rng(seed).permutation(len(labels)).astype(np.uint64)
    table = pa.table(
        {
            "split": ["train"] * len(labels),
            "label": labels,
            "class": labels.astype(str),
            "content": contents,
        }
    )
    val, held = Division(val_fraction=fraction, val_seed=seed).of(table)
    expected = np.minimum(share(np.array(sizes), fraction), np.array(sizes) - 1)
    assert np.bincount(labels[val], minlength=len(sizes)).tolist() == expected.tolist()
    assert not held.any()
