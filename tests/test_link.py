import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mfm.__main__ import main
from mfm.data.linking import link, manifest
from mfm.data.loading.decoding import Decoder
from mfm.data.pictures import headers
from mfm.data.settings import Dataset
from mfm.data.sources import generated
from mfm.errors import UserError
from mfm.experiment import preflight
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.settings.section import dumps, parse

CLASSES = {"train": {"cat": 3, "dog": 2}, "val": {"cat": 2, "dog": 2}}


def draw_image(path, *, size=(12, 10), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make_folder(root, splits=CLASSES, *, suffix=".png"):
    seed = 0
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                draw_image(root / split / name / f"{number}{suffix}", seed=(seed := seed + 1))
    return root


def contents(root):
    """Everything below a folder: kind, bytes or target, and time of the last change."""
    return {
        path.relative_to(root).as_posix(): (
            os.readlink(path)
            if path.is_symlink()
            else (path.read_bytes() if path.is_file() else None),
            path.lstat().st_mtime_ns,
        )
        for path in root.rglob("*")
    }


def dataset(source, **more):
    return Dataset(name="own", source=str(source), **more)


def complaint(source, folder):
    with pytest.raises(UserError) as caught:
        link.link(dataset(source), folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "images")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data/own"


def test_folders_are_linked_and_described(root, folder):
    link.link(dataset(root), folder)
    for split in ("train", "val"):
        assert (folder / split).is_symlink()
        assert (folder / split).resolve() == root / split
    assert len(manifest.load(folder / "manifest.parquet", "train")) == 5
    assert len(manifest.load(folder / "manifest.parquet", "val")) == 4


def test_a_relative_source_is_linked_from_anywhere(root, folder, monkeypatch):
    monkeypatch.chdir(root.parent)
    link.link(dataset("images"), folder)
    monkeypatch.chdir("/")
    assert (folder / "train").resolve() == root / "train"


def test_a_second_run_changes_nothing(root, folder):
    link.link(dataset(root), folder)
    before = {name: (folder / name).read_bytes() for name in ("manifest.parquet", "summary.json")}
    link.link(dataset(root), folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("spelling", ["{root}/", "{root}/train/..", "{alias}"])
def test_the_same_folder_spelled_differently_is_the_same_source(root, folder, tmp_path, spelling):
    (tmp_path / "alias").symlink_to(root)
    link.link(dataset(root), folder)
    link.link(dataset(spelling.format(root=root, alias=tmp_path / "alias")), folder)
    assert (folder / "train").resolve() == root / "train"


def test_a_second_run_sees_new_images(root, folder):
    link.link(dataset(root), folder)
    draw_image(root / "train/cat/new.png")
    link.link(dataset(root), folder)
    assert len(manifest.load(folder / "manifest.parquet", "train")) == 6


def test_another_source_under_the_same_name_is_refused(root, folder, tmp_path):
    other = make_folder(tmp_path / "other")
    link.link(dataset(root), folder)
    before = contents(folder)
    message = complaint(other, folder)
    assert str(root) in message
    assert str(other) in message
    assert "dataset.name" in message
    assert contents(folder) == before


@pytest.mark.parametrize("source", ["generated", "fashion-mnist"])
def test_a_built_in_dataset_does_not_replace_a_linked_one(root, folder, source):
    link.link(dataset(root), folder)
    before = contents(folder)
    assert source in complaint(source, folder)
    assert contents(folder) == before


def test_a_linked_folder_does_not_replace_a_built_in_one(root, folder):
    link.link(dataset("generated"), folder)
    before = contents(folder)
    assert "generated" in complaint(root, folder)
    assert contents(folder) == before


@pytest.mark.parametrize("splits", [["train", "val"], ["train"], ["val"]])
def test_real_folders_in_the_way_of_links_stay(root, folder, splits):
    make_folder(folder, {split: CLASSES[split] for split in splits})
    before = {split: contents(folder / split) for split in splits}
    assert str(folder / splits[0]) in complaint(root, folder)
    assert {split: contents(folder / split) for split in splits} == before


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_real_folder_in_the_way_of_an_export_stays(folder, split):
    make_folder(folder, {split: CLASSES[split]})
    before = contents(folder / split)
    with pytest.raises(UserError, match=re.escape(str(folder))):
        link.link(dataset("generated"), folder)
    assert contents(folder / split) == before


def test_the_users_folder_is_never_touched(root, folder, tmp_path):
    before = contents(root)
    link.link(dataset(root), folder)
    link.link(dataset(root, holdout_per_class=1), folder)
    with pytest.raises(UserError):
        link.link(dataset(make_folder(tmp_path / "other")), folder)
    with pytest.raises(UserError):
        link.link(dataset("generated"), folder)
    assert contents(root) == before


def test_an_absent_source_is_named_with_the_built_in_ones(tmp_path, folder):
    message = complaint(tmp_path / "absent", folder)
    assert str(tmp_path / "absent") in message
    assert "fashion-mnist" in message
    assert not folder.exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named(root, folder, split):
    (root / split).rename(root / "elsewhere")
    assert f"no folder '{split}'" in complaint(root, folder)


def test_images_without_class_folders_are_told(tmp_path, folder):
    for split in ("train", "val"):
        draw_image(tmp_path / "flat" / split / "0.png")
    assert "train/<class>/" in complaint(tmp_path / "flat", folder)


@pytest.mark.parametrize(("here", "there"), [("train", "val"), ("val", "train")])
def test_a_class_of_one_split_alone_is_named(root, folder, here, there):
    draw_image(root / here / "bird" / "0.png")
    assert f"need the same class folders: only {here} has 'bird'" in complaint(root, folder)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("other_file", [None, "notes.txt", ".hidden.png", "Thumbs.db"])
def test_an_empty_class_is_named(root, folder, split, other_file):
    for path in (root / split / "dog").iterdir():
        path.unlink()
    if other_file:
        draw_image(root / split / "dog" / "image.png")
        (root / split / "dog" / "image.png").rename(root / split / "dog" / other_file)
    if other_file == "notes.txt":
        (root / split / "dog" / other_file).write_text("no image")
    message = complaint(root, folder)
    assert f"{split}/dog" in message
    assert "no images" in message


def truncated(name):
    def write(path):
        draw_image(path.with_suffix(name), size=(64, 64))
        content = path.with_suffix(name).read_bytes()
        path.with_suffix(name).unlink()
        path.write_bytes(content[: len(content) * 2 // 3])

    return write


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("bad.jpg", lambda path: path.write_bytes(b"")),
        ("bad.jpg", lambda path: path.write_bytes(b"<html>404</html>")),
        ("bad.jpg", lambda path: path.write_bytes(b"x")),
        ("bad.jpg", lambda path: path.symlink_to("nowhere.jpg")),
        ("bad.jpg", truncated(".jpg")),
        ("bad.JPEG", truncated(".jpg")),
        ("bad.png", truncated(".png")),
        ("bad.bmp", truncated(".bmp")),
        ("bad.webp", truncated(".webp")),
        ("bad.tif", truncated(".tif")),
    ],
    ids=[
        "zero bytes",
        "not an image",
        "one byte",
        "dangling link",
        "truncated jpg",
        "truncated JPEG",
        "truncated png",
        "truncated bmp",
        "truncated webp",
        "truncated tif",
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_unreadable_image_is_named(root, folder, split, name, write):
    write(root / split / "dog" / name)
    message = complaint(root, folder)
    assert message.startswith("1 unreadable image: ")
    assert f"{split}/dog/{name}" in message
    assert not (folder / "manifest.parquet").exists()


def test_an_empty_file_is_told_as_such(root, folder):
    (root / "train/dog/bad.jpg").touch()
    assert "train/dog/bad.jpg (zero bytes)" in complaint(root, folder)


def test_many_unreadable_images_are_counted(root, folder):
    for number in range(8):
        (root / f"train/cat/bad{number}.jpg").write_bytes(b"")
    message = complaint(root, folder)
    assert message.startswith("8 unreadable images: ")
    assert len(re.findall(r"bad\d\.jpg", message)) == 5
    assert "and 3 more" in message


def test_a_mended_folder_can_be_linked(root, folder):
    (root / "train/cat/bad.jpg").write_bytes(b"")
    complaint(root, folder)
    draw_image(root / "train/cat/bad.jpg")
    link.link(dataset(root), folder)
    assert len(manifest.load(folder / "manifest.parquet", "train")) == 6


def test_a_file_name_that_is_not_utf8_is_told(root, folder):
    draw_image(root / "train/cat/new.png")
    os.rename(root / "train/cat/new.png", os.fsencode(root / "train/cat") + b"/caf\xe9.png")
    assert "train/cat" in complaint(root, folder)


def test_the_summary_counts(root, folder):
    draw_image(root / "train/cat/wide.png", size=(100, 20))
    link.link(dataset(root), folder)
    found = json.loads((folder / "summary.json").read_text())
    assert found["name"] == "own"
    assert found["source"] == str(root)
    assert found["classes"] == ["cat", "dog"]
    assert found["images"] == 10
    assert found["splits"].keys() == {"train", "val"}
    train, val = found["splits"]["train"], found["splits"]["val"]
    assert train["images"] == 6
    assert train["per_class"] == {"cat": 4, "dog": 2}
    assert val["per_class"] == {"cat": 2, "dog": 2}
    assert train["width"] == {"min": 12, "median": 12, "max": 100}
    assert val["height"] == {"min": 10, "median": 10, "max": 10}
    for split, part in found["splits"].items():
        files = [path for path in (root / split).rglob("*") if path.is_file()]
        assert part["bytes"] == sum(path.stat().st_size for path in files)


def test_the_summary_counts_the_holdout(root, folder):
    link.link(dataset(root, holdout_per_class=1), folder)
    splits = json.loads((folder / "summary.json").read_text())["splits"]
    assert splits["holdout"]["per_class"] == {"cat": 1, "dog": 1}
    assert splits["train"]["per_class"] == {"cat": 2, "dog": 1}
    assert splits["val"]["images"] == 4


def test_the_generated_dataset_is_exported_once(folder):
    link.link(dataset("generated"), folder)
    found = manifest.load(folder / "manifest.parquet", "train")
    assert found.classes == generated.CLASSES
    assert np.bincount(found.labels).tolist() == [32] * 4
    assert (
        np.bincount(manifest.load(folder / "manifest.parquet", "val").labels).tolist() == [12] * 4
    )
    before = contents(folder / "train") | contents(folder / "val")
    link.link(dataset("generated"), folder)
    assert contents(folder / "train") | contents(folder / "val") == before
    assert not (folder / ".export").exists()


def test_the_generated_dataset_is_the_same_everywhere(tmp_path):
    for name in ("a", "b"):
        link.link(dataset("generated"), tmp_path / name)
    ours, theirs = (
        {path: content for path, (content, _) in contents(tmp_path / name / "train").items()}
        for name in ("a", "b")
    )
    assert ours == theirs
    images = [content for content in ours.values() if content]
    assert len(set(images)) == len(images) == 128


def test_a_killed_export_is_not_taken_for_whole(folder, monkeypatch):
    def killed(target):
        export(target)
        for path in list((target / "train").rglob("*.png"))[5:]:
            path.unlink()
        draw_image(target / "train/checks/other.png")
        raise KeyboardInterrupt

    export = generated.export
    with monkeypatch.context() as patch:
        patch.setattr(link.generated, "export", killed)
        with pytest.raises(KeyboardInterrupt):
            link.link(dataset("generated"), folder)
    link.link(dataset("generated"), folder)
    assert len(manifest.load(folder / "manifest.parquet", "train")) == 128


def test_an_export_killed_between_its_two_renames_is_finished(folder, monkeypatch):
    def killed(source, target):
        if str(target).endswith("/val"):
            raise KeyboardInterrupt
        rename(source, target)

    rename = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            link.link(dataset("generated"), folder)
    link.link(dataset("generated"), folder)
    assert len(manifest.load(folder / "manifest.parquet", "train")) == 128
    assert len(manifest.load(folder / "manifest.parquet", "val")) == 48


def write_config(path, source):
    path.write_text(dumps(dataset(source)))
    return str(path)


def test_the_command_line_links(root, folder, tmp_path, monkeypatch):
    arguments = ["--config", write_config(tmp_path / "c.json", root), "--folder", str(folder)]
    monkeypatch.setattr(sys, "argv", ["mfm", "link", *arguments])
    main()
    assert len(manifest.load(folder / "manifest.parquet", "val")) == 4


def test_the_command_line_ends_on_a_user_error_with_one_line(root, folder, tmp_path):
    (root / "train/cat/bad.jpg").write_bytes(b"")
    arguments = ["--config", write_config(tmp_path / "c.json", root), "--folder", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "mfm", "link", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mfm: error: 1 unreadable image: ")
    assert "train/cat/bad.jpg" in last
    assert done.stderr.count("mfm: error:") == 1


@pytest.mark.parametrize(
    ("source", "told"), [("absent", "absent"), ("generated2", "did you mean|neither")]
)
def test_the_command_line_names_a_wrong_source(source, told, folder, tmp_path, monkeypatch, capsys):
    arguments = ["--config", write_config(tmp_path / "c.json", source), "--folder", str(folder)]
    monkeypatch.setattr(sys, "argv", ["mfm", "link", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(rf"mfm: error: .*({told})", lines[0])


def test_a_command_line_error_of_several_lines_is_shown_as_one(tmp_path, monkeypatch, capsys):
    path = tmp_path / "c.json"
    path.write_text('{"name": "a\\n\\nb"}')
    arguments = ["--config", str(path), "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["mfm", "link", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture
def unlabelled(tmp_path):
    for number, name in enumerate(("a.png", "deep/b.png", "deep/er/c.JPG", "deep/er/notes.txt")):
        path = tmp_path / "pool" / name
        draw_image(path.with_suffix(".png"), seed=100 + number)
        path.with_suffix(".png").rename(path)
    path.write_text("no image")
    return tmp_path / "pool"


def test_unlabelled_images_are_linked_at_any_depth(root, folder, unlabelled):
    link.link(dataset(root), folder)
    before = manifest.load(folder / "manifest.parquet", "val")
    link.link(dataset(root, unlabelled=str(unlabelled)), folder)
    assert (folder / "pretrain").resolve() == unlabelled
    found = manifest.load(folder / "manifest.parquet", "pretrain")
    assert found.paths.to_pylist() == [
        "pretrain/a.png",
        "pretrain/deep/b.png",
        "pretrain/deep/er/c.JPG",
    ]
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.classes == ("cat", "dog")
    assert found.rows.tolist() == [9, 10, 11]
    after = manifest.load(folder / "manifest.parquet", "val")
    assert after.paths.equals(before.paths)
    assert after.rows.tolist() == before.rows.tolist()
    splits = json.loads((folder / "summary.json").read_text())["splits"]
    assert splits["pretrain"]["images"] == 3
    assert "per_class" not in splits["pretrain"]


def test_unlabelled_images_can_be_taken_away_again(root, folder, unlabelled):
    link.link(dataset(root), folder)
    before = (folder / "manifest.parquet").read_bytes()
    link.link(dataset(root, unlabelled=str(unlabelled)), folder)
    link.link(dataset(root), folder)
    assert not (folder / "pretrain").exists()
    assert unlabelled.is_dir()
    assert (folder / "manifest.parquet").read_bytes() == before


def test_a_missing_or_empty_folder_of_unlabelled_images_is_told(root, folder, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.unlabelled: there is no folder '/nowhere'"):
        link.link(dataset(root, unlabelled="/nowhere"), folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none has no images at any depth"):
        link.link(dataset(root, unlabelled=str(tmp_path / "none")), folder)


def test_a_real_folder_in_the_way_of_the_unlabelled_link_stays(root, folder, unlabelled):
    draw_image(folder / "pretrain/mine.png")
    with pytest.raises(UserError, match=re.escape(str(folder / "pretrain"))):
        link.link(dataset(root, unlabelled=str(unlabelled)), folder)
    assert (folder / "pretrain/mine.png").is_file()


def test_all_that_is_wrong_is_told_at_once(root, folder, monkeypatch):
    """Names, numbers and headers in one line, before a file is hashed."""
    draw_image(root / "train/bird/0.png")
    draw_image(root / "val/cat /0.png", seed=9)
    draw_image(root / "val/cat /1.png", seed=10)
    (root / "val/dog/bad.jpg").write_bytes(b"")
    (root / "train/empty").mkdir()
    (root / "val/empty").mkdir()
    (root / "val/lost").symlink_to("gone")
    (root / "train/cat/up").symlink_to(root / "train")
    draw_image(root / "train/cat/new.png")
    os.rename(root / "train/cat/new.png", os.fsencode(root / "train/cat") + b"/caf\xe9.png")

    def refuse(*_):
        raise AssertionError("hashed")

    monkeypatch.setattr(headers.hashlib, "file_digest", refuse)
    asked = dataset(root, holdout_per_class=2)
    with pytest.raises(UserError) as caught:
        link.link(asked, folder)
    message = str(caught.value)
    for part in (
        "7 things are to be mended: (1) ",
        f"{root}/val/lost is a link to gone, which isn't there",
        f"{root}/train and {root}/val need the same class folders: only train has 'bird', "
        "only val has 'cat '",
        f"{root}/train/cat/up/cat lies in itself by a link",
        f"{root}/train/cat/caf\\xe9.png: the name is not UTF-8",
        "dataset.holdout_per_class is 2, which leaves some classes no training image ('bird' has 1",
        f"1 unreadable image: {root}/val/dog/bad.jpg (zero bytes)",
        f"class folders {root}/train/empty, {root}/val/empty have no images",
    ):
        assert part in message
    assert not (folder / "manifest.parquet").exists()
    with pytest.raises(UserError) as foreseen:
        link.foresee(asked, demands=lambda counts: [])
    parts = message.replace(f" (all of them: {folder}/left_out.csv)", "")
    assert str(foreseen.value) == parts


def test_classes_that_look_alike_are_told_apart(root, folder):
    draw_image(root / "train/caf\u00e9/0.png")
    draw_image(root / "val/cafe\u0301/0.png", seed=50)
    assert "only train has 'caf\\xe9', only val has 'cafe\\u0301'" in complaint(root, folder)


def rename_val(root):
    os.rename(root / "val", root / "val-before")


def link_val_to_train(root):
    rename_val(root)
    (root / "val").symlink_to("train")


def copy_train_to_val(root):
    rename_val(root)
    shutil.copytree(root / "train", root / "val")


def link_classes_of_val(root):
    rename_val(root)
    (root / "val").mkdir()
    for name in ("cat", "dog"):
        (root / "val" / name).symlink_to(root / "train" / name)


def leave_one_class(root):
    for split in ("train", "val"):
        shutil.rmtree(root / split / "dog")


def leave_one_image(root, split):
    for name in ("cat", "dog"):
        for path in sorted((root / split / name).iterdir())[1:]:
            path.unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (link_val_to_train, "/val is the same folder as "),
        (copy_train_to_val, "all 5 images of val are also in train, byte for byte"),
        (link_classes_of_val, "all 5 images of val are also in train, byte for byte"),
        (leave_one_class, "there is a single class, 'cat', so every answer is right"),
        (lambda root: leave_one_image(root, "train"), "train has one image of each class"),
        (
            lambda root: leave_one_image(root, "val"),
            "val has 2 images of 2 classes, each of which",
        ),
    ],
)
def test_what_can_mean_nothing_is_refused(root, folder, change, told):
    change(root)
    assert told in complaint(root, folder)
    assert not (folder / "manifest.parquet").exists()


def test_images_of_val_that_are_trained_on_are_noted(root, folder):
    shutil.copy(root / "train/cat/0.png", root / "val/dog/same.png")
    notes = link.link(dataset(root, holdout_per_class=1), folder)
    assert notes in (
        ["1 of the 5 images of val is also in train, byte for byte."],
        ["1 of the 5 images of val is also in holdout, byte for byte."],
    )
    overlap = json.loads((folder / "summary.json").read_text())["overlap"]
    assert overlap["val in train"] + overlap["val in holdout"] == 1


@pytest.mark.parametrize("gone", ["file", "class", "root"])
def test_an_image_that_is_gone_is_named_with_what_links_again(root, folder, gone):
    link.link(dataset(root), folder)
    images = manifest.load(folder / "manifest.parquet", "train")
    if gone == "file":
        (root / "train/cat/0.png").unlink()
    else:
        shutil.rmtree(root / "train/cat" if gone == "class" else root)
    with pytest.raises(UserError) as caught:
        Decoder(images)(0)
    assert re.search(r"train/cat/0\.png is gone since .*--forcerun link_dataset", str(caught.value))


def test_a_folder_that_was_never_linked_is_looked_at_before_any_job(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "dataset": {"name": "own", "source": str(root), "image_size": 32},
        "model": {"backbone": "test_resnet", "options": {}},
        "arms": {"scratch": "scratch"},
        "finetune": {"batch": 6, "images_per_class": 3},
    }
    runs = Runs(parse(Experiment, values, where="test"))
    with pytest.raises(UserError, match=r"finetune\.images_per_class is 3, but class dog has 2"):
        preflight.check(runs)
    draw_image(root / "train/dog/2.png", seed=70)
    preflight.check(runs)
    assert not (tmp_path / "data").exists()
