import hashlib
import io
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mfm.data.linking import manifest
from mfm.data.linking.division import Division
from mfm.data.linking.selection import labelled_positions
from mfm.data.pictures.reading import Reading
from mfm.errors import UserError

SIZES = {"train": 6, "val": 2}
NAMES = ("ape", "bee", "cat")


def encoded(image_format, *, size=(9, 7), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size).save(file, image_format)
    return file.getvalue()


PNG = encoded("PNG")


def make_folder(folder, sizes=SIZES, names=NAMES):
    for split, count in sizes.items():
        for name in names:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                (folder / split / name / f"{number}.png").write_bytes(PNG)
    return folder


def scanned(folder, **settings):
    manifest.write(folder, **settings)
    return pq.read_table(folder / "manifest.parquet")


def saved(table, folder):
    pq.write_table(table, folder / "manifest.parquet")
    return folder / "manifest.parquet"


def changed(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    index = table.column_names.index(name)
    return table.set_column(index, name, pa.array(values, table.schema.field(name).type))


def test_one_row_per_image_with_its_facts(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "val/bee/1.png").unlink()
    wide = encoded("JPEG", size=(20, 5))
    (tmp_path / "val/bee/wide.JPG").write_bytes(wide)
    table = scanned(tmp_path)
    assert table.num_rows == 3 * (6 + 2)
    row = next(row for row in table.to_pylist() if "wide" in row["path"])
    assert row == {
        "split": "val",
        "path": "val/bee/wide.JPG",
        "label": 1,
        "class": "bee",
        "width": 20,
        "height": 5,
        "bytes": len(wide),
        "mode": "RGB",
        "format": "JPEG",
        "content": int.from_bytes(hashlib.blake2b(wide, digest_size=8).digest(), "little"),
    }


def test_rows_are_in_order_however_the_files_were_made(tmp_path):
    names = [f"{k:02d}" for k in range(12)]
    paths = [f"{s}/{n}/{k}.png" for s in ("train", "val") for n in names for k in range(3)]
    for seed in (1, 2):
        for path in random.Random(seed).sample(paths, len(paths)):
            (tmp_path / str(seed) / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / str(seed) / path).write_bytes(PNG)
    first, second = (scanned(tmp_path / str(seed)) for seed in (1, 2))
    assert first["path"].to_pylist() == sorted(paths)
    assert first.equals(second)


def test_labels_follow_the_sorted_class_names(tmp_path):
    make_folder(tmp_path, names=("zebra", "Ape", "ape", "10", "9"))
    rows = scanned(tmp_path).to_pylist()
    labels = {row["class"]: row["label"] for row in rows}
    assert labels == {"10": 0, "9": 1, "Ape": 2, "ape": 3, "zebra": 4}
    assert all(row["path"].split("/")[1] == row["class"] for row in rows)


def test_nested_images_count_and_other_files_do_not(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train/ape/deep/er").mkdir(parents=True)
    (tmp_path / "train/ape/deep/er/x.png").write_bytes(PNG)
    for name in ("notes.txt", ".hidden.png", "x.npy", "png"):
        (tmp_path / "train/ape" / name).write_bytes(b"not an image")
    (tmp_path / "train/.cache").mkdir()
    found = scanned(tmp_path)["path"].to_pylist()
    assert len(found) == 3 * (6 + 2) + 1
    assert "train/ape/deep/er/x.png" in found


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_mode_of_pixels_is_accepted(tmp_path, mode):
    make_folder(tmp_path)
    suffix = "tif" if mode == "CMYK" else "png"
    image_format = "TIFF" if mode == "CMYK" else "PNG"
    (tmp_path / f"train/ape/x.{suffix}").write_bytes(encoded(image_format, size=(4, 3), mode=mode))
    rows = scanned(tmp_path, reading=Reading(scale=(0, 255)))
    row = next(r for r in rows.to_pylist() if f"x.{suffix}" in r["path"])
    assert (row["width"], row["height"]) == (4, 3)


def test_a_whole_file_with_bytes_after_its_end_is_accepted(tmp_path):
    make_folder(tmp_path)
    for name, content in (("x.png", PNG), ("x.jpg", encoded("JPEG"))):
        (tmp_path / "train/ape" / name).write_bytes(content + b"some camera's appendix")
    assert scanned(tmp_path).num_rows == 3 * (6 + 2) + 2


FORMATS = {"PNG": "png", "JPEG": "jpg", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}


@pytest.mark.filterwarnings("ignore")
@given(data=st.data(), image_format=st.sampled_from(sorted(FORMATS)))
@settings(deadline=None, max_examples=100)
def test_a_damaged_file_is_read_or_named(data, image_format):
    content = bytearray(encoded(image_format))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with tempfile.TemporaryDirectory() as name:
        folder = make_folder(Path(name), {"train": 1, "val": 1}, names=("ape",))
        path = f"train/ape/x.{FORMATS[image_format]}"
        (folder / path).write_bytes(content)
        try:
            told = scanned(folder)["path"].to_pylist()
        except UserError as error:
            told = str(error)
        assert path in told


def test_a_missing_split_is_a_user_error(tmp_path):
    make_folder(tmp_path, {"train": 1})
    with pytest.raises(UserError, match="val is missing"):
        scanned(tmp_path)


def test_loading_gives_one_split_in_manifest_order(tmp_path):
    make_folder(tmp_path)
    table = scanned(tmp_path)
    images = manifest.load(saved(table, tmp_path), "val")
    expected = [(k, row) for k, row in enumerate(table.to_pylist()) if row["split"] == "val"]
    assert len(images) == len(expected) == 6
    assert images.classes == NAMES
    assert images.rows.tolist() == [k for k, _ in expected]
    assert images.labels.tolist() == [row["label"] for _, row in expected]
    assert images.widths.tolist() == [9] * 6
    assert images.heights.tolist() == [7] * 6
    for position, (_, row) in enumerate(expected):
        assert images.path(position) == tmp_path / row["path"]
        assert images.path(position).is_file()


def test_taking_positions_keeps_each_images_facts(tmp_path):
    images = manifest.load(saved(scanned(make_folder(tmp_path)), tmp_path), "train")
    positions = np.array([7, 0, 17, 7])
    taken = images.take(positions)
    assert len(taken) == 4
    for here, there in enumerate(positions):
        assert taken.path(here) == images.path(int(there))
        assert taken.rows[here] == images.rows[there]
        assert taken.labels[here] == images.labels[there]


def test_a_split_without_images_is_a_user_error(tmp_path):
    path = saved(scanned(make_folder(tmp_path)), tmp_path)
    with pytest.raises(UserError, match="no images of split 'holdout'"):
        manifest.load(path, "holdout")


def test_a_split_that_lacks_a_class_keeps_the_other_labels(tmp_path):
    table = scanned(make_folder(tmp_path))
    rows = [k for k, row in enumerate(table.to_pylist()) if row["class"] != "bee" or k > 18]
    images = manifest.load(saved(table.take(pa.array(rows)), tmp_path), "train")
    assert images.classes == NAMES
    assert set(images.labels.tolist()) == {0, 2}


def test_the_digest_is_of_the_rows_alone(tmp_path):
    digests = []
    for name in ("a", "b"):
        table = scanned(make_folder(tmp_path / name))
        digests.append(manifest.digests(saved(table, tmp_path / name)))
    pq.write_table(table, tmp_path / "plain.parquet", compression="none", row_group_size=4)
    assert digests == [manifest.digests(tmp_path / "plain.parquet")] * 2
    assert set(digests[0]) == {"train", "val"}
    assert digests[0]["train"] != digests[0]["val"]


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_the_digest_does_not_depend_on_how_many_rows_are_read_at_once(tmp_path, monkeypatch, rows):
    path = saved(scanned(make_folder(tmp_path)), tmp_path)
    whole, plain = manifest.digests(path), pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda file, **told: plain(file, batch_size=rows, **told)
    )
    assert manifest.digests(path) == whole


def test_a_split_keeps_its_digest_when_others_change(tmp_path):
    table = scanned(make_folder(tmp_path))
    before = manifest.digests(saved(table, tmp_path))
    last = table.num_rows - 1
    assert table["split"][last].as_py() == "val"
    after = manifest.digests(saved(changed(table, "content", last, 1), tmp_path))
    assert after["train"] == before["train"]
    assert after["val"] != before["val"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split", "holdout"),
        ("path", "train/ape/other.png"),
        ("label", 2),
        ("width", 10),
        ("height", 10),
        ("bytes", 1),
        ("content", 1),
    ],
)
def test_the_digest_changes_with_any_fact(tmp_path, name, value):
    table = scanned(make_folder(tmp_path))
    before = manifest.digests(saved(table, tmp_path))
    after = manifest.digests(saved(changed(table, name, 3, value), tmp_path))
    assert after["train"] != before["train"]


def test_the_digest_changes_with_the_order(tmp_path):
    table = scanned(make_folder(tmp_path))
    before = manifest.digests(saved(table, tmp_path))
    swapped = table.take(pa.array([1, 0, *range(2, table.num_rows)]))
    assert manifest.digests(saved(swapped, tmp_path))["train"] != before["train"]


def splits(table):
    return {row["path"]: row["split"] for row in table.to_pylist()}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_holdout_is_balanced_and_taken_from_train(tmp_path, count):
    make_folder(tmp_path)
    plain = scanned(tmp_path)
    table = scanned(tmp_path, division=Division(holdout_per_class=count))
    held = [row for row in table.to_pylist() if row["split"] == "holdout"]
    assert np.bincount([row["label"] for row in held]).tolist() == [count] * 3
    assert all(row["path"].startswith("train/") for row in held)
    # no image twice, none lost, val untouched, and each row still the same image
    assert table.drop(["split"]).equals(plain.drop(["split"]))
    rest = {path: split for path, split in splits(table).items() if split != "holdout"}
    assert rest.items() <= splits(plain).items()
    assert len(rest) == plain.num_rows - len(held)


def test_the_loaded_splits_are_disjoint(tmp_path):
    path = saved(scanned(make_folder(tmp_path), division=Division(holdout_per_class=2)), tmp_path)
    rows = [set(manifest.load(path, split).rows) for split in ("train", "val", "holdout")]
    assert [len(each) for each in rows] == [12, 6, 6]
    assert len(set.union(*rows)) == 24


def test_the_holdout_is_the_same_every_time(tmp_path):
    first, second = (make_folder(tmp_path / name) for name in ("a", "b"))
    (second / "val/ape/more.png").write_bytes(PNG)
    held = [
        {
            path
            for path, split in splits(scanned(f, division=Division(holdout_per_class=2))).items()
            if split == "holdout"
        }
        for f in (first, second)
    ]
    assert held[0] == held[1]
    assert len(held[0]) == 6


def test_a_holdout_of_everything_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.holdout_per_class"):
        scanned(make_folder(tmp_path), division=Division(holdout_per_class=6))


def test_a_class_too_small_for_the_holdout_is_named(tmp_path):
    make_folder(tmp_path)
    for number in range(2, 6):
        (tmp_path / f"train/bee/{number}.png").unlink()
    with pytest.raises(UserError, match=r"(?s)holdout_per_class.*bee|bee.*holdout_per_class"):
        scanned(tmp_path, division=Division(holdout_per_class=4))


@st.composite
def label_arrays(draw):
    counts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    order = draw(st.permutations(range(len(labels))))
    return labels[list(order)], tuple(f"class{k}" for k in range(len(counts)))


@given(arrays=label_arrays(), data=st.data(), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_labelled_images_are_balanced(arrays, data, seed):
    labels, classes = arrays
    count = data.draw(st.integers(1, int(np.bincount(labels).min())))
    positions = labelled_positions(labels, classes, count, seed=seed)
    assert np.bincount(labels[positions], minlength=len(classes)).tolist() == [count] * len(classes)
    assert (np.diff(positions) > 0).all()
    again = labelled_positions(labels.copy(), classes, count, seed=seed)
    np.testing.assert_array_equal(positions, again)


@given(arrays=label_arrays(), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_too_few_labelled_images_are_a_user_error(arrays, seed):
    labels, classes = arrays
    counts = np.bincount(labels)
    with pytest.raises(UserError) as caught:
        labelled_positions(labels, classes, int(counts.min()) + 1, seed=seed)
    message = str(caught.value)
    assert "finetune.images_per_class" in message
    smallest = [classes[k] for k in np.flatnonzero(counts == counts.min())]
    assert any(f"class {name} has {counts.min()} " in message for name in smallest)


def test_a_class_without_any_labelled_image_is_named():
    with pytest.raises(UserError, match="class b has 0 "):
        labelled_positions(np.array([0, 0, 2]), ("a", "b", "c"), 1, seed=0)


def test_all_images_are_taken_where_no_count_is_given():
    labels = np.array([2, 0, 1, 1])
    for seed in (0, 1):
        assert labelled_positions(labels, ("a", "b", "c"), None, seed=seed).tolist() == [0, 1, 2, 3]


def test_seeds_draw_different_images():
    labels = np.arange(400) % 4
    drawn = {tuple(labelled_positions(labels, tuple("abcd"), 10, seed=seed)) for seed in range(20)}
    assert len(drawn) == 20


def test_every_image_of_a_class_is_drawn_alike_often():
    # 500 seeds draw 5 of 20: each image 125 times, give or take 5 standard deviations of 9.7
    labels = np.arange(40) % 2
    times = np.zeros(40, int)
    for seed in range(500):
        times[labelled_positions(labels, ("a", "b"), 5, seed=seed)] += 1
    assert np.abs(times - 125).max() < 49
