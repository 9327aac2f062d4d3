"""Labels of a CSV file: the same images as in folders of classes, groups, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mfm.data.folders.groups import drawn
from mfm.data.linking import link, manifest
from mfm.data.linking.selection import share
from mfm.data.loading.batches import TrainBatches
from mfm.data.loading.order import Plan
from mfm.data.settings import Crop, Dataset, DatasetJob
from mfm.errors import UserError
from mfm.experiment.resolve import dataset_job
from mfm.experiment.settings import Experiment
from mfm.numerics.draws import Stream
from mfm.settings.section import dumps, parse

COUNTS = {"ape": 12, "bee": 9, "007": 8, "NA": 7}


def draw(path, label, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 14), (label, number, 5)).save(path)


def folders(root, *, divided):
    """Class folders, below train/ and val/ where they are divided."""
    for label, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            split = ("val" if number % 3 == 0 else "train") if divided else ""
            draw(root / split / name / f"{number}.png", label, number)
    return root


def listed(root, rows, *, columns=("path", "label"), name="labels.csv", **form):
    root.mkdir(parents=True, exist_ok=True)
    with open(root / name, "w", newline="", encoding="utf-8") as text:
        csv.writer(text, **form).writerows([columns, *rows])
    return root / name


def linked(root, target, **keys):
    link.link(Dataset(name="own", source=str(root), **keys), target)
    return target


def left(folder):
    files = [manifest.NAME, *(path.name for path in folder.glob("images.*.json"))]
    return {name: (folder / name).read_bytes() for name in files}


def first_steps(folder):
    """Pixels and labels of two epochs, as a training has them."""
    images = manifest.load(folder / manifest.NAME, "train")
    plan = Plan(images=len(images), batch=5, micro_batch=5, seed=3, rank=0, world=1, pairs=False)
    batches = TrainBatches(images, crop=Crop(), size=16, seed=3, randaugment=None)
    requests = [
        (epoch, micro)
        for epoch in (0, 1)
        for step in plan.epoch(epoch, first_step=0)
        for micro in step.micro_batches
    ]
    made = [batches.batch(request) for request in requests]
    return [
        np.concatenate([np.asarray(getattr(b, name)) for b in made])
        for name in ("images", "labels")
    ]


@pytest.mark.parametrize("divided", [False, True])
def test_the_same_images_are_the_same_dataset_to_the_bit(tmp_path, divided):
    root = folders(tmp_path / "own", divided=divided)
    keys = {} if divided else {"val_fraction": 0.25, "holdout_per_class": 1}
    before = left(linked(root, tmp_path / "by folders", **keys))
    paths = sorted((path.relative_to(root) for path in root.rglob("*.png")), reverse=True)
    rows = [(path, path.parts[-2], path.parts[0], "") for path in paths]
    columns = ("path", "label", "split" if divided else "site", "group")
    keys["labels"] = str(listed(root, rows, columns=columns))
    assert left(linked(root, tmp_path / "by a file", **keys)) == before
    # And at other places, where the order of the names is the same.
    flat = tmp_path / "flat"
    for path, label, *_ in rows:
        (flat / label).parent.mkdir(exist_ok=True)
        shutil.copy(root / path, flat / f"{label} {path.name}")
    rows = [(f"{label} {path.name}", label, *more) for path, label, *more in rows]
    keys["labels"] = str(listed(flat, rows, columns=columns))
    linked(flat, tmp_path / "of other names", **keys)
    both = [first_steps(tmp_path / name) for name in ("by folders", "of other names")]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*both, strict=True))


def test_files_are_read_as_programs_write_them(tmp_path):
    root, rows = tmp_path / "own", []
    for number in range(8):
        draw(root / f"a b/{number}.png", number, number)
        draw(root / f"{number},x.png", number, 100 + number)
        rows.append((f"a b\\{number}.png", " nan", ""))
        rows.append((root / f"{number},x.png", "007", "p1" if number < 4 else "NA"))
    file = listed(
        root, rows, columns=("path", "label", "group"), delimiter=";", quoting=csv.QUOTE_ALL
    )
    spaced = file.read_bytes().replace(b'";"', b'"; "')
    file.write_bytes(b"\xef\xbb\xbf" + spaced + b"\r\n;;\r\n")
    folder = linked(root, tmp_path / "data", labels=str(file), val_fraction=0.5)
    table = pq.read_table(folder / manifest.NAME).to_pandas()
    assert sorted(set(table["class"])) == ["007", "nan"]
    assert set(table["group"]) == {"", "p1", "NA"}
    assert table.groupby(["class", "split"]).size().tolist() == [4, 4, 4, 4]
    # An image without a group is its own.
    groups = manifest.load(folder / manifest.NAME, "train").groups
    named = table[table["split"] == "train"]["group"]
    assert len(set(groups)) == len(set(named) - {""}) + (named == "").sum()
    # Known again, file by file.
    again = manifest.write(
        folder, splits=["train"], labels=link.labels_of(dataset_of(root, file, val_fraction=0.5))
    )
    assert (again.read, again.unchanged) == (0, 16)


def dataset_of(root, file, **keys):
    return Dataset(name="own", source=str(root), labels=str(file), **keys)


GOOD = [(f"{name}{number}.png", name) for name in "ab" for number in range(6)]
SPLIT = [(path, label, "val" if path[1] in "01" else "train") for path, label in GOOD]
PLACED = ("path", "label", "split")


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (("path", "Labels"), GOOD, "has no column label: call its column 'Labels' label;"),
        (
            ("image_id", "dx"),
            GOOD,
            "call its column 'image_id' path and call its column 'dx' label",
        ),
        (("x", "label"), GOOD, "has no column path: its first line says 'x', 'label'; it needs"),
        (("path", "path"), GOOD, "has no column label"),
        (("path", "label", "label"), SPLIT, "has two columns 'label'"),
        (("path", "label", "Split"), SPLIT, "a column 'Split', which isn't read: call it split"),
        (("path", "label", "patient_id"), SPLIT, "'patient_id', which isn't read: call it group"),
        (("path", "label"), [], "lists no images"),
        (("path", "label"), [*GOOD, ("c", "", "")], "line 14 of other than 2 cells"),
        (PLACED, [*SPLIT, ("c", "", "val"), ("", "a", "val")], "line 14 without a label"),
        (PLACED, [*SPLIT, ("c", "", "val"), ("", "a", "val")], "line 15 without a path"),
        (PLACED, [*SPLIT, ("c", "a", "")], "line 14 without a split"),
        (PLACED, [*SPLIT, ("c", "a", "Train")], "neither train nor val (did you mean train?)"),
        (PLACED, [*SPLIT, ("c", "a", "test")], "('test') with a split that is neither train nor"),
        (PLACED, [*SPLIT, ("./a0.png", "b", "val")], "(a0.png, first on line 2) with a path for"),
        (PLACED, [*SPLIT, ("../c.png", "b", "val")], "line 14 (../c.png) with a path that is out"),
        (PLACED, [*SPLIT, ("/c.png", "b", "val")], "line 14 (/c.png) with a path that is outside"),
        (PLACED, [*SPLIT, ("a7.png", "a", "val")], "lists a file that is not in"),
        (PLACED, [*SPLIT, ("A0", "a", "val")], "A0 (line 14) (did you mean a0.png?)"),
        (PLACED, [*SPLIT, ("e\u0301.txt", "a", "val")], r"there is '\xe9.txt', the same letters"),
        (PLACED, [*SPLIT, ("e.png", "e\u0301", "val"), ("f.png", "\xe9", "val")], "NFC and NFD"),
        (PLACED, [(*row[:2], "train") for row in SPLIT], "has no image of split val: say in a"),
        (PLACED, [*SPLIT, ("own.csv", "c", "val")], "need the same classes: only val has 'c'"),
        (
            (*PLACED, "group"),
            [(*row, f"p{row[0][1]}") for row in SPLIT] + [("own.csv", "a", "val", "p2")],
            "has a group in train and in val: 'p2' (line 4 train, line 14 val); put it on one side",
        ),
        (
            (*PLACED, "group"),
            [(*row, ("e\u0301", "\xe9")[row[2] == "val"]) for row in SPLIT],
            "has a group in train and in val",  # that looks the same
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_linked(tmp_path, columns, rows, said):
    root = tmp_path / "own"
    for number, (path, _) in enumerate(GOOD):
        draw(root / path, number, 7)
    (root / "\xe9.txt").touch()
    file = listed(root, rows, columns=columns, name="own.csv")
    for check in (
        lambda: link.foresee(dataset_of(root, file), demands=lambda counts: []),
        lambda: linked(root, tmp_path / "data", labels=str(file)),
    ):
        with pytest.raises(UserError) as error:
            check()
        assert said in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        ("path,label\n\xe9.png,a\n".encode("latin-1"), "isn't UTF-8: save it as CSV in UTF-8"),
        ("path,label\na.png,a\n".encode("utf-16-le"), "isn't UTF-8: save it as CSV in UTF-8"),
        (None, "dataset.labels: there is no file 'own.csv' (did you mean"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path, content, said):
    root = tmp_path / "own"
    root.mkdir()
    (root / "own.csv").write_bytes(content or b"")
    file = "own.csv" if content is None else str(root / "own.csv")
    with pytest.raises(UserError) as error:
        linked(root, tmp_path / "data", labels=file, val_fraction=0.2)
    assert said in str(error.value)


def test_what_is_listed_is_to_be_an_image(tmp_path):
    root = tmp_path / "own"
    for number, (path, _) in enumerate(GOOD):
        draw(root / path, number, 7)
    file = listed(root, [*SPLIT, ("labels.csv", "b", "val")], columns=PLACED)
    with pytest.raises(UserError, match=r"1 unreadable image: \S*labels\.csv \("):
        linked(root, tmp_path / "data", labels=str(file))
    linked(root, tmp_path / "data", labels=str(file), on_bad_image="skip")
    assert len(manifest.load(tmp_path / "data" / manifest.NAME, "val")) == 4


def test_a_file_that_has_changed_is_another_dataset(tmp_path):
    file = listed(tmp_path / "own", SPLIT, columns=PLACED)
    values = {"source": str(tmp_path / "own"), "labels": str(file)}
    experiment = Experiment.model_validate({"dataset": values})
    before = dataset_job(experiment)
    file.write_text(file.read_text() + "more.png,a,val\n")
    after = dataset_job(experiment)
    assert before != after
    assert parse(DatasetJob, json.loads(dumps(after)), where="x") == after
    assert "labels" not in dumps(dataset_job(Experiment()))


def test_val_is_taken_once(tmp_path):
    root = tmp_path / "own"
    file = listed(root, SPLIT, columns=PLACED)
    with pytest.raises(UserError, match="says itself which images are val"):
        linked(root, tmp_path / "data", labels=str(file), val_fraction=0.2)
    with pytest.raises(UserError, match=r"dataset\.labels is for a folder of your own"):
        link.link(Dataset(source="generated", labels=str(file)), tmp_path / "data")


def test_groups_stay_on_one_side_of_val_and_of_the_holdout(tmp_path):
    root, rows = tmp_path / "own", []
    for number in range(120):
        group = f"patient {number // 5}" if number < 100 else ""
        draw(root / f"{number}.png", number % 2, number)
        rows.append((f"{number}.png", "ab"[number % 2], group))
    # One file in two groups, which are one then.
    shutil.copy(root / "0.png", root / "x.png")
    rows.append(("x.png", "a", "patient 19"))
    file = listed(root, rows, columns=("path", "label", "group"))
    keys = {"labels": str(file), "val_fraction": 0.25, "holdout_per_class": 10}
    table = pq.read_table(linked(root, tmp_path / "data", **keys) / manifest.NAME).to_pandas()
    grouped = table[table["group"] != ""]
    assert grouped.groupby("group")["split"].nunique().max() == 1
    joined = table[table["group"].isin(["patient 0", "patient 19"])]
    assert joined["split"].nunique() == 1
    counts = table.groupby(["split", "class"]).size()
    assert all(abs(counts["val"] - 15) <= 2)
    assert all(abs(counts["holdout"] - 10) <= 2)
    again = pq.read_table(linked(root, tmp_path / "again", **keys) / manifest.NAME).to_pandas()
    assert again.equals(table)
    # One more patient leaves nearly all others on their side.
    for number in range(120, 126):
        draw(root / f"{number}.png", number % 2, number)
        rows.append((f"{number}.png", "ab"[number % 2], "patient 99"))
    listed(root, rows, columns=("path", "label", "group"))
    more = pq.read_table(linked(root, tmp_path / "more", **keys) / manifest.NAME).to_pandas()
    both = table.merge(more, on="path", suffixes=("", "_now"))
    assert (both["split"] == both["split_now"]).mean() > 0.7


def test_a_class_of_a_single_group_is_refused(tmp_path):
    root, rows = tmp_path / "own", []
    for number in range(24):
        draw(root / f"{number}.png", number % 2, number)
        rows.append((f"{number}.png", "ab"[number % 2], f"p{number % 8}" if number % 2 else "q"))
    file = listed(root, rows, columns=("path", "label", "group"))
    # (A class of two groups is divided, and told to be far from what was asked.)
    two = [(path, label, f"{group}{n % 4 == 0}") for n, (path, label, group) in enumerate(rows)]
    other = dataset_of(root, listed(root, two, columns=("path", "label", "group"), name="two.csv"))
    other = other.model_copy(update={"val_fraction": 0.2})
    [note] = link.link(other, tmp_path / "data")
    assert note.startswith("val has 6 of the 12 images of class 'a', 50% where dataset.val_frac")
    with pytest.raises(UserError, match="class 'a' has too few different groups to be in train"):
        linked(root, tmp_path / "data", labels=str(file), val_fraction=0.25)


@pytest.mark.parametrize("pure", [True, False])
def test_shares_are_as_even_as_those_of_scikit_learn(pure):
    model_selection = pytest.importorskip("sklearn.model_selection")
    ours, theirs = [], []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        sizes = generator.integers(1, 15, 60)
        groups = np.repeat(np.arange(60), sizes)
        labels = (groups if pure else generator.integers(0, 60, len(groups))) % 4
        table = pa.table(
            {
                "label": labels,
                "content": generator.permutation(len(labels)).astype(np.uint64),
                "group": groups.astype(str),
            }
        )
        total = np.bincount(labels)
        taken = drawn(table, share(total, 0.2), seed=seed, stream=Stream.VAL)
        assert not set(groups[taken]) & set(groups[~taken])
        folds = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        _, rows = next(folds.split(labels, labels, groups))
        for found, each in ((ours, labels[taken]), (theirs, labels[rows])):
            found.append(np.abs(np.bincount(each, minlength=4) / total - 0.2).mean())
    assert np.mean(ours) < np.mean(theirs) + 0.005
