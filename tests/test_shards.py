import io
import json
import os
import signal
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_link import make_folder
from test_training import assert_same_bits, final, losses, write_config

from mfm.commands import shards as command
from mfm.data.folders import tars
from mfm.data.folders.packing import pack
from mfm.data.linking import link, manifest
from mfm.data.linking.division import Division
from mfm.data.loading import decoding
from mfm.data.loading.batches import TrainBatches
from mfm.data.loading.choice import create_loader
from mfm.data.pictures import contents, headers
from mfm.data.pictures.reading import Reading
from mfm.data.settings import Crop, Dataset
from mfm.errors import StoppedError, UserError
from mfm.experiment.jobs import load_training
from mfm.processes.lifetime import StopRequest
from mfm.processes.ranks import Process
from mfm.training import run as training
from mfm.training.operation import Operation

MORE = ["shard", "offset", "header"]


def encoded(seed=0, image_format="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def write_tar(path, members, *, pax=tarfile.PAX_FORMAT):
    """A tar of what is given by name: bytes, or a changed member without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=pax) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                vars_of = content
                for key, value in vars_of.items():
                    setattr(member, key, value)
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def tarred(folder, out):
    """The splits of a folder as two tars each, of files in no order."""
    for split in ("train", "val"):
        files = sorted((folder / split).rglob("*"), reverse=True)
        files = [path for path in files if path.is_file()]
        for number in (0, 1):
            members = {
                f"./{path.relative_to(folder / split).as_posix()}": path.read_bytes()
                for path in files[number::2]
            }
            write_tar(out / split / f"{number}.tar", members)
    return out


def rows(folder):
    table = pq.read_table(folder / "manifest.parquet")
    return table.drop([name for name in MORE if name in table.column_names])


@pytest.fixture
def both(tmp_path):
    """A folder, and the same images in tars."""
    folder = make_folder(tmp_path / "folder")
    for name in ("cat/a.b/c.png", "cat/a/c.png", "cat/a-1.png", "dog/é.png"):
        (folder / "train" / name).parent.mkdir(exist_ok=True)
        (folder / "train" / name).write_bytes(encoded(len(name)))
    (folder / "train/dog/notes.txt").write_text("no image")
    (folder / "train/dog/.hidden.png").write_text("no image")
    return folder, tarred(folder, tmp_path / "tars")


def test_tars_give_the_rows_of_the_folder_and_so_its_digests(both):
    for folder in both:
        manifest.write(folder, division=Division(holdout_per_class=1))
    one, other = both
    assert rows(one).equals(rows(other))
    for split in ("train", "val", "holdout"):
        name = f"images.{split}.json"
        assert (one / name).read_bytes() == (other / name).read_bytes()
        left, right = (manifest.load(each / "manifest.parquet", split) for each in both)
        picked = np.arange(len(left))[::-2].copy()
        assert len(left)
        for position in range(len(picked)):
            bytes_of = [decoding.read(each.take(picked), position) for each in (left, right)]
            assert bytes_of[0] == bytes_of[1]
    assert (one / "left_out.csv").read_text() == (other / "left_out.csv").read_text()


def test_val_is_drawn_from_tars_as_from_the_folder(both):
    for folder in both:
        manifest.write(folder, splits=["train"], division=Division(val_fraction=0.4))
    assert rows(both[0]).equals(rows(both[1]))


def test_a_split_in_tars_stands_beside_one_in_folders(both):
    folder, tarred_ = both
    manifest.write(folder)
    (folder / "train").rename(folder / "was")
    (folder / "train").symlink_to(tarred_ / "train")
    before = rows(folder)
    manifest.write(folder)
    assert rows(folder).equals(before)
    assert manifest.load(folder / "manifest.parquet", "val").members is None


def test_what_is_unchanged_is_not_read_again(both, monkeypatch):
    _, folder = both
    assert manifest.write(folder).unchanged == 0
    before = (folder / "manifest.parquet").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        patch.setattr(headers, "_read_open", lambda *_: headers.Unread(headers.OTHER, "no image"))
        found = manifest.write(folder)
    assert (found.read, found.unchanged) == (1, found.images.total())  # the one that is no image
    assert (folder / "manifest.parquet").read_bytes() == before
    write_tar(folder / "train/2.tar", {"cat/new.png": encoded(80), "dog/new.png": encoded(81)})
    assert manifest.write(folder).read == 3
    write_tar(folder / "train/2.tar", {"cat/new.png": encoded(82)})
    assert manifest.write(folder).read == 2
    (folder / ".shards.train.parquet").write_bytes(b"damaged")
    assert manifest.write(folder).read == 1


SAMPLES = {
    "a/0001.jpg": encoded(1, "JPEG"),
    "a/0001.cls": b"dog\n",
    "a/0001.json": b"{}",
    "a/0001.seg.png": encoded(5),
    "0002.cls": b"cat",
    "0002.PNG": encoded(2),
    "__meta__/x.jpg": b"of WebDataset",
    "readme": b"of no sample",
}


def samples(folder, classes, **more):
    """A split of two images in one tar, and a val of the same classes."""
    content = SAMPLES | {"a/0001.cls": classes[0], "0002.cls": classes[1]}
    write_tar(folder / "train/0.tar", content | more)
    val = {f"v{n}.{end}": each for n in range(4) for end, each in _pair(n, classes)}
    write_tar(folder / "val/0.tar", val)
    return folder


def _pair(number, classes):
    return ("png", encoded(10 + number)), ("cls", classes[number % 2])


@pytest.mark.parametrize(
    ("written", "listed", "names"),
    [
        ((b"dog", b"cat\n"), None, ["dog", "cat"]),
        ((b"9", b"10"), None, ["09", "10"]),
        ((b"1", b"0"), "ape\nbee\n", ["bee", "ape"]),
    ],
)
def test_samples_of_webdataset_say_their_class(tmp_path, written, listed, names):
    folder = samples(tmp_path, written)
    for split in ("train", "val") if listed else ():
        (folder / split / "classes.txt").write_text(listed)
    manifest.write(folder)
    images = manifest.load(folder / "manifest.parquet", "train")
    assert images.classes == tuple(sorted(names))
    expected = {f"train/{names[0]}/a/0001.jpg", f"train/{names[1]}/0002.PNG"}
    assert set(images.paths.to_pylist()) == expected
    row = images.paths.to_pylist().index(f"train/{names[1]}/0002.PNG")
    assert decoding.read(images, row) == SAMPLES["0002.PNG"]
    assert (folder / "left_out.csv").read_text().count("\n") == 1


def test_unlabelled_images_may_lie_in_tars(both, tmp_path):
    folder, _ = both
    of_samples = {name: each for name, each in SAMPLES.items() if "__" not in name}
    write_tar(folder / "pretrain/0.tar", of_samples)
    manifest.write(folder, splits=["train", "val", "pretrain"])
    images = manifest.load(folder / "manifest.parquet", "pretrain")
    assert images.paths.to_pylist() == [
        f"pretrain/{name}" for name in ("0002.PNG", "a/0001.jpg", "a/0001.seg.png")
    ]
    assert decoding.read(images, 1) == SAMPLES["a/0001.jpg"]


@pytest.mark.parametrize("written_as", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_read(tmp_path, written_as):
    name = f"cat/{'long/' * 60}{'é' * 90}.png"
    write_tar(tmp_path / "train/0.tar", {name: encoded(1), "dog/1.png": encoded(2)}, pax=written_as)
    write_tar(tmp_path / "val/0.tar", {"cat/1.png": encoded(3), "dog/1.png": encoded(4)})
    manifest.write(tmp_path)
    images = manifest.load(tmp_path / "manifest.parquet", "train")
    assert images.paths[0].as_py() == f"train/{name}"
    assert decoding.read(images, 0) == encoded(1)


def refuse(folder, match, **more):
    with pytest.raises(UserError, match=match) as caught:
        manifest.write(folder, **more)
    assert "\n" not in str(caught.value)


IMAGE = {"dog/1.png": encoded(1), "cat/1.png": encoded(2)}
LINK = {"type": tarfile.SYMTYPE, "linkname": "1.png"}


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (IMAGE | {"cat/2.png": LINK}, r"train/0\.tar: cat/2\.png is a link: .*--dereference"),
        (IMAGE | {"cat/2.png": {"type": tarfile.FIFOTYPE}}, r"cat/2\.png is no plain file"),
        (IMAGE | {"cat/2.png": {"type": b"S"}}, r"cat/2\.png is no plain file \(sparse"),
        (IMAGE | {"../cat/2.png": b""}, r"\.\./cat/2\.png has a name that leads out of"),
        (IMAGE | {"cat/\udcff.png": b""}, r"cat/\\xff\.png has a name that isn't UTF-8"),
        (IMAGE | {"./cat/1.png": b""}, r"cat/1\.png in .*0\.tar: there is another file of that"),
        ({"1.png": encoded(1)}, r"the tars of .*train say no classes: put images into them as"),
        (
            {f"train/{name}": each for name, each in IMAGE.items()},
            r"one folder, 'train', .*write them from inside of it \(tar cf 0\.tar -C train \.\)",
        ),
        ({"1.png": b"", "1.cls": b"a", "2.png": b""}, r"2\.png without a file \.cls of the same"),
        ({"1.png": b"", "1.cls": b"a", "2.cls": b"b"}, r"0\.tar: 2\.cls without an image"),
        ({"1.png": b"", "1.jpg": b"", "1.cls": b"a"}, r"1\.jpg is one of two images of 1\.cls"),
        ({"1.png": b"", "1.cls": b"a/b"}, r"1\.cls holds no name of a class"),
    ],
)
def test_what_a_tar_may_not_hold_is_named(tmp_path, members, told):
    write_tar(tmp_path / "train/0.tar", members)
    write_tar(tmp_path / "val/0.tar", IMAGE)
    refuse(tmp_path, told)


@pytest.mark.parametrize("end", [-2, -1])
def test_a_tar_that_is_cut_off_is_named(both, end):
    _, folder = both
    path = folder / "train/1.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    # In the middle of an image, or behind its last byte, where the tar's end is missing.
    whole = last.offset_data + -(-last.size // 512) * 512
    os.truncate(path, whole if end == -1 else last.offset_data + 100)
    refuse(folder, r"train/1\.tar is cut off")
    path.write_bytes(b"no tar" * 200)
    refuse(folder, r"train/1\.tar is cut off, damaged, compressed, or no tar")
    path.unlink()
    path.symlink_to("nowhere")
    refuse(folder, r"train/1\.tar can't be read: No such file or directory; mend or remove it")


def test_tars_beside_folders_or_compressed_are_refused(both):
    folder, tarred_ = both
    (folder / "val/0.tar").symlink_to(tarred_ / "val/0.tar")
    refuse(folder, r"val holds tars \(0\.tar\) and folders or images \(cat/, dog/\).*move one")
    (tarred_ / "train/2.tar.gz").write_bytes(b"")
    refuse(tarred_, r"train holds compressed tars, .*: 2\.tar\.gz; unpack each to a plain \.tar")


def test_samples_and_class_trees_do_not_mix(tmp_path):
    folder = samples(tmp_path, (b"dog", b"cat"))
    write_tar(folder / "train/1.tar", IMAGE)
    refuse(folder, r"in files \.cls in 0\.tar and none in 1\.tar: write all tars in one way")


def test_a_list_of_classes_that_is_too_short_is_told(tmp_path):
    folder = samples(tmp_path, (b"1", b"2"))
    for split in ("train", "val"):
        (folder / split / "classes.txt").write_text("ape\nbee\n")
    refuse(folder, r"classes\.txt names 2 classes, and there is a class 2, counted from 0")


def test_a_bad_image_is_told_with_its_tar(tmp_path):
    write_tar(tmp_path / "train/0.tar", IMAGE | {"dog/2.png": b"", "dog/3.png": encoded(5)[:60]})
    write_tar(tmp_path / "val/0.tar", {"dog/1.png": encoded(3), "cat/1.png": encoded(4)})
    refuse(tmp_path, r"2 unreadable images: dog/2\.png in /.*train/0\.tar \(zero bytes\), dog/3")
    found = manifest.write(tmp_path, reading=Reading(on_bad_image="skip"))
    assert found.bad.total() == 2


@pytest.mark.parametrize("gone", [True, False])
def test_a_tar_that_changed_since_is_named(both, gone):
    _, folder = both
    manifest.write(folder)
    images = manifest.load(folder / "manifest.parquet", "train")
    for path in (folder / "train").glob("*.tar"):
        path.unlink()
        if not gone:
            write_tar(path, IMAGE)
    told = r"is gone since the dataset was linked" if gone else r"has changed since the dataset"
    with pytest.raises(UserError, match=rf"^shard .*train/\d\.tar {told}.*--forcerun link_dataset"):
        decoding.read(images, 2)


def test_few_tars_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        contents, "_open", contents.lru_cache(maxsize=2)(contents._open.__wrapped__)
    )
    for number in range(12):
        write_tar(
            tmp_path / f"train/{number}.tar", {f"{'ab'[number % 2]}/{number}.png": encoded(number)}
        )
    write_tar(tmp_path / "val/0.tar", {"a/1.png": encoded(30), "b/1.png": encoded(31)})
    manifest.write(tmp_path)
    images = manifest.load(tmp_path / "manifest.parquet", "train")
    before = len(os.listdir("/proc/self/fd"))
    for position in [*range(12), *range(12)]:
        number = int(Path(images.paths[position].as_py()).stem)
        assert decoding.read(images, position) == encoded(number)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_deep_values_are_measured_in_tars(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    seed = 0
    for split in ("train", "val"):
        for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"):
            path = one / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draw = np.random.default_rng(seed := seed + 1)
            Image.fromarray(draw.integers(0, 4096, (8, 8), dtype=np.uint16)).save(path)
    tarred(one, other)
    for folder in (one, other):
        manifest.write(folder, reading=Reading(scale="percentile"))
    metadata = [pq.read_schema(each / "manifest.parquet").metadata for each in (one, other)]
    assert metadata[0] == metadata[1]
    assert b"window" in metadata[0][b"reading"]


NAMES = st.text(st.sampled_from("ab.-/ é"), min_size=1, max_size=6).filter(
    lambda name: all(part.strip(" .") and not part.startswith(".") for part in name.split("/"))
)


@given(
    trees=st.lists(
        st.dictionaries(
            st.tuples(st.sampled_from(["x", "x-", "__x__"]), NAMES), st.integers(0, 3), min_size=1
        ),
        min_size=1,
        max_size=3,
    ),
    size=st.sampled_from([1, 3000, 10**6]),
)
@settings(deadline=None, max_examples=15)
def test_any_tree_has_the_same_rows_in_tars(trees, size):
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "folder", Path(name) / "tars"
        for split in ("train", "val"):
            for tree in [{("y", "1"): 1}, *trees]:  # a single class is told of otherwise
                for (of_class, below), seed in tree.items():
                    path = folder / split / of_class / f"{below}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(encoded(seed) if seed else b"no image")
        pack(folder, out, size=size)
        told = []
        for each in (folder, out):
            try:
                manifest.write(each, reading=Reading(on_bad_image="skip"))
                told.append(rows(each).to_pylist())
            except UserError as error:
                told.append("are unreadable" in str(error))
        assert told[0] == told[1]


def test_the_command_writes_the_same_tars_each_time(both, tmp_path, capsys):
    folder, _ = both
    for name in ("one", "two"):
        command.main([str(folder), str(tmp_path / name), "--size", "3K"])
    one, two = (tmp_path / name for name in ("one", "two"))
    names = sorted(path.relative_to(one) for path in one.rglob("*.tar"))
    assert len(names) > 4
    assert [(one / name).read_bytes() for name in names] == [
        (two / name).read_bytes() for name in names
    ]
    assert all((one / name).stat().st_size <= 12_000 for name in names)
    assert f"{one}/train: 10 files in" in capsys.readouterr().out
    for each in (folder, one):
        manifest.write(each)
    assert rows(folder).equals(rows(one))


def test_the_command_overwrites_nothing_and_leaves_no_half(both, tmp_path):
    folder, tarred_ = both
    before = sorted(tmp_path.rglob("*"))
    for out, told in (
        (tarred_, "is there, and nothing is overwritten"),
        (folder / "out", "would be one of its classes"),
    ):
        with pytest.raises(UserError, match=told):
            pack(folder, out, size=10**6)
    with pytest.raises(UserError, match="holds tars already"):
        pack(tarred_, tmp_path / "new", size=10**6)
    (folder / "val/dog/gone.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"val/dog/gone\.png can't be read"):
        pack(folder, tmp_path / "new", size=10**6)
    (folder / "val/dog/gone.png").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_tars_are_linked_as_a_source(both, tmp_path):
    folder, tarred_ = both
    for source, name in ((folder, "one"), (tarred_, "two")):
        link.link(Dataset(name="own", source=str(source)), tmp_path / name)
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")
    ]
    for each in summaries:
        each.pop("source")
    assert summaries[0] == summaries[1]
    link.foresee(Dataset(name="own", source=str(tarred_)), demands=lambda counts: [])
    with pytest.raises(UserError, match=r"^3 in all$"):
        link.foresee(
            Dataset(name="own", source=str(tarred_)),
            demands=lambda counts: [f"{counts['val']['cat'] + 1} in all"],
        )
    (tarred_ / "labels.csv").write_text("path,label,split\ntrain/a,b,train\nval/c,b,val\n")
    labelled = Dataset(name="own", source=str(tarred_), labels=str(tarred_ / "labels.csv"))
    with pytest.raises(UserError, match=r"labels\.csv lists files, and .* holds tars"):
        link.foresee(labelled, demands=lambda counts: [])


def photographs(folder):
    """JPEGs of different sizes, one PNG among them, in two classes."""
    draw = np.random.default_rng(0)
    for number in range(18):
        name = f"{('train', 'val')[number > 11]}/{'ab'[number % 2]}/{number}"
        path = folder / f"{name}.{'png' if number == 5 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = draw.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        size = draw.integers(33, 60, 2).tolist()
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    """Manifests of a folder, and of its tars."""
    one = photographs(tmp_path_factory.mktemp("folder"))
    pack(one, two := tmp_path_factory.mktemp("tars") / "new", size=3000)
    for folder in (one, two):
        manifest.write(folder)
    return [folder / "manifest.parquet" for folder in (one, two)]


@pytest.mark.parametrize(("loader", "workers"), [("torchvision", 2), ("dali", 0)])
def test_batches_are_the_folders_bit_by_bit(linked, loader, workers):
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
    made = []
    for path in linked:
        images = manifest.load(path, "train")
        decoding.read(images, 0)  # a tar that is open where workers are forked
        batches = TrainBatches(images, crop=Crop(), size=32, seed=3)
        feed = create_loader(loader, batches, workers=workers, device=torch.device("cpu"))
        parts = np.split(np.arange(12)[::-1].copy(), 4)
        made.append(list(feed.read(lambda parts=parts: [(1, part) for part in parts])))
    for one, other in zip(*made, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


class After(StopRequest):
    """A request to stop after some steps."""

    def __init__(self, steps):
        self.steps = steps

    @property
    def received(self):
        self.steps -= 1
        return None if self.steps >= 0 else signal.SIGTERM


def test_a_training_goes_on_from_tars_to_the_folders_bits(linked, tmp_path):
    def train(run, path, stop=None):
        config = write_config(run, epochs=3, batch=4, backbone="test_resnet")
        more = {} if stop is None else {"stop": After(stop)}
        training.run(
            load_training(config),
            config=config,
            weights="scratch",
            manifest_path=path,
            operation=Operation(run=run, workers=0, checkpoint_epochs=1, **more),
            process=Process(rank=0, world=1, device=torch.device("cpu")),
        )

    folder, in_tars = linked
    train(tmp_path / "whole", folder)
    for path, stop in ((in_tars, 1), (in_tars, 2), (folder, 2)):
        with pytest.raises(StoppedError):
            train(tmp_path / "parts", path, stop)
    train(tmp_path / "parts", in_tars)
    assert_same_bits(final(tmp_path / "whole"), final(tmp_path / "parts"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_keys_are_webdatasets():
    for name, key, ending in (
        ("a/b.seg.PNG", "a/b", "seg.png"),
        ("a.b/c.jpg", "a.b/c", "jpg"),
        ("c", "c", ""),
        (".cls", ".cls", ""),
    ):
        assert tars.key_of(name) == (key, ending)
