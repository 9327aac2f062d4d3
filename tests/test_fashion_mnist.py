import gzip
import hashlib
import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from mfm.data.linking.link import link
from mfm.data.settings import Dataset
from mfm.data.sources import fashion_mnist
from mfm.errors import UserError

INSTALLED = fashion_mnist._DEBIAN_FOLDER
COUNTS = {"train": 40, "t10k": 20}


def _stand_ins():
    """Images, labels and unpacked idx content of a tiny dataset in Fashion-MNIST's format."""
    draw = np.random.default_rng(0)
    arrays, contents = {}, {}
    for prefix, count in COUNTS.items():
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = draw.permutation(np.arange(count, dtype=np.uint8) % 10)
        arrays[prefix] = images, labels
        head = np.array([0x803, count, 28, 28], ">i4").tobytes()
        contents[f"{prefix}-images-idx3-ubyte.gz"] = head + images.tobytes()
        head = np.array([0x801, count], ">i4").tobytes()
        contents[f"{prefix}-labels-idx1-ubyte.gz"] = head + labels.tobytes()
    return arrays, contents


ARRAYS, CONTENTS = _stand_ins()
FIRST = "train-images-idx3-ubyte.gz"


def write_archives(folder, *, level=9):
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(gzip.compress(content, level))
    return folder


def no_network(root, download):
    raise RuntimeError("Error downloading the images: no route to host")


def torchvision_download(root, download):
    write_archives(Path(root) / "FashionMNIST/raw")


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """The stand-ins' checksums, and none of the four places on this machine."""
    sums = {name: hashlib.md5(content).hexdigest() for name, content in CONTENTS.items()}
    assert sums.keys() == fashion_mnist._MD5.keys()
    monkeypatch.setattr(fashion_mnist, "_MD5", sums)
    # "/" / this is below tmp_path, and so is UNPACKED / this
    monkeypatch.setattr(fashion_mnist, "_DEBIAN_FOLDER", (tmp_path / "debian").relative_to("/"))
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", no_network)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def executable(path, body):
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)


def install_apt(tmp_path):
    """apt-get and dpkg-deb that log their arguments and deliver the stand-ins."""
    archives = write_archives(tmp_path / "mirror")
    log = tmp_path / "calls.jsonl"
    start = (
        "import json, pathlib, shutil, sys\n"
        f"with open({str(log)!r}, 'a') as log:\n"
        "    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + '\\n')\n"
    )
    executable(
        tmp_path / "bin/apt-get",
        start + "if 'download' in sys.argv:\n"
        "    pathlib.Path(sys.argv[-1] + '_1.0_all.deb').write_bytes(b'package')\n",
    )
    executable(
        tmp_path / "bin/dpkg-deb",
        start + "assert pathlib.Path(sys.argv[2]).read_bytes() == b'package'\n"
        f"target = pathlib.Path(sys.argv[3]) / {str(fashion_mnist._DEBIAN_FOLDER)!r}\n"
        f"shutil.copytree({str(archives)!r}, target)\n",
    )
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def find(tmp_path, archives=None):
    return fashion_mnist.find_or_fetch(archives=archives, downloads=tmp_path / "downloads")


def complaint(tmp_path, archives=None):
    with pytest.raises(UserError) as caught:
        find(tmp_path, archives)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_configured_folder_is_read(tmp_path):
    assert find(tmp_path, str(write_archives(tmp_path / "own"))) == CONTENTS


@pytest.mark.parametrize("level", [0, 1, 9])
def test_any_packing_of_the_same_bytes_is_accepted(tmp_path, level):
    assert fashion_mnist.read(write_archives(tmp_path / "own", level=level)) == CONTENTS


@pytest.mark.parametrize("name", CONTENTS)
def test_a_missing_file_is_named(tmp_path, name):
    folder = write_archives(tmp_path / "own")
    (folder / name).unlink()
    assert name in complaint(tmp_path, str(folder))


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_of_other_content_is_named_with_both_sums(tmp_path, name):
    folder = write_archives(tmp_path / "own")
    other = CONTENTS[name][:-1] + bytes([CONTENTS[name][-1] ^ 1])
    (folder / name).write_bytes(gzip.compress(other))
    message = complaint(tmp_path, str(folder))
    assert str(folder / name) in message
    assert hashlib.md5(other).hexdigest() in message
    assert fashion_mnist._MD5[name] in message


def flipped(packed):
    # the header of a deflate block: its type becomes an invalid one
    return packed[:10] + bytes([packed[10] | 0b110]) + packed[11:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-4],
        lambda packed: packed[:5],
        lambda packed: b"",
        lambda packed: b"<html>not found</html>",
        lambda packed: packed[:-6] + b"\0\0" + packed[-4:],
        flipped,
    ],
    ids=["half", "tail cut", "head only", "empty", "a web page", "checksum", "invalid block"],
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    folder = write_archives(tmp_path / "own")
    (folder / FIRST).write_bytes(damage((folder / FIRST).read_bytes()))
    assert str(folder / FIRST) in complaint(tmp_path, str(folder))


def test_a_configured_folder_that_is_wrong_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", torchvision_download)
    write_archives("/" / fashion_mnist._DEBIAN_FOLDER)
    assert str(tmp_path / "absent") in complaint(tmp_path, str(tmp_path / "absent"))


def test_the_installed_package_lies_where_debian_puts_it():
    assert Path("/usr/share/datasets/fashion-mnist") == "/" / INSTALLED


def test_places_are_tried_in_order(tmp_path, monkeypatch, capsys):
    tried = []

    def way(name, works):
        def get(*args, **kwargs):
            tried.append(name)
            if not works:
                raise UserError(f"{name} has none")
            return {"from": name}

        return get

    places = {"read": "installed", "_from_torchvision": "torchvision", "_from_apt": "apt"}
    for working in places.values():
        tried.clear()
        for function, name in places.items():
            monkeypatch.setattr(fashion_mnist, function, way(name, name == working))
        assert find(tmp_path) == {"from": working}
        assert tried == list(places.values())[: list(places.values()).index(working) + 1]
        assert "Fashion-MNIST from" in capsys.readouterr().out


def test_the_installed_package_needs_no_download(tmp_path):
    write_archives("/" / fashion_mnist._DEBIAN_FOLDER)
    assert find(tmp_path) == CONTENTS
    assert not (tmp_path / "downloads").exists()


def test_torchvision_downloads_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", torchvision_download)
    assert find(tmp_path) == CONTENTS
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", no_network)
    assert find(tmp_path) == CONTENTS


def test_a_damaged_place_is_passed_over(tmp_path):
    debian = write_archives("/" / fashion_mnist._DEBIAN_FOLDER)
    (debian / FIRST).write_bytes(flipped((debian / FIRST).read_bytes()))
    install_apt(tmp_path)
    assert find(tmp_path) == CONTENTS


def test_apt_fetches_with_its_own_state_and_leaves_nothing(tmp_path):
    calls = install_apt(tmp_path)
    assert find(tmp_path) == CONTENTS
    update, download, unpack = calls()
    assert update[0] == download[0] == "apt-get"
    assert update[-1] == "update"
    assert download[-2:] == ["download", "dataset-fashion-mnist"]
    for call in (update, download):
        options = dict(option.split("=", 1) for flag, option in pairwise(call) if flag == "-o")
        assert options.keys() == {"Dir::State::Lists", "Dir::Cache"}
        for folder in options.values():
            assert Path(folder).is_relative_to(tmp_path / "downloads")
    assert update[1:-1] == download[1:-2]
    assert unpack[:2] == ["dpkg-deb", "-x"]
    assert Path(unpack[3]).is_relative_to(tmp_path / "downloads")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_apt_fetches_into_a_relative_folder(tmp_path, monkeypatch):
    # as the workflow names it: data/<name>/downloads
    monkeypatch.chdir(tmp_path)
    calls = install_apt(tmp_path)
    assert fashion_mnist.find_or_fetch(archives=None, downloads=Path("data/x")) == CONTENTS
    for call in calls():
        folders = [word.split("=")[1] for word in call if "=" in word]
        assert all(Path(folder).is_absolute() for folder in folders)


def test_apts_own_folders_exist_before_it_runs(tmp_path):
    install_apt(tmp_path)
    log = tmp_path / "folders"
    body = (tmp_path / "bin/apt-get").read_text() + (
        "folders = [word.split('=')[1] for word in sys.argv if '=' in word]\n"
        "assert all((pathlib.Path(folder) / 'partial').is_dir() for folder in folders)\n"
        f"pathlib.Path({str(log)!r}).write_text(str(len(folders)))\n"
    )
    (tmp_path / "bin/apt-get").write_text(body)
    assert find(tmp_path) == CONTENTS
    assert log.read_text() == "2"


def test_without_any_place_one_message_names_all_four(tmp_path):
    message = complaint(tmp_path)
    for way in ("dataset.archives", "apt-get install dataset-fashion-mnist", "torchvision"):
        assert way in message
    assert "apt-get download" in message
    assert FIRST in message
    # and why each failed
    assert "no route to host" in message
    assert "no apt-get on this machine" in message


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_a_failing_tool_is_told_with_its_own_words(tmp_path, tool):
    install_apt(tmp_path)
    executable(
        tmp_path / "bin" / tool, "import sys\nsys.exit('E: could not resolve\\nmirror.example')\n"
    )
    assert f"{tool} failed: E: could not resolve mirror.example" in complaint(tmp_path)


def test_apt_without_a_package_is_told(tmp_path):
    install_apt(tmp_path)
    executable(tmp_path / "bin/apt-get", "")
    assert "no package" in complaint(tmp_path)


def test_pngs_hold_the_pixels_below_their_class(tmp_path):
    fashion_mnist.export(CONTENTS, tmp_path / "out")
    for split, prefix in (("train", "train"), ("val", "t10k")):
        images, labels = ARRAYS[prefix]
        paths = sorted((tmp_path / "out" / split).rglob("*.png"), key=lambda path: path.stem)
        assert [int(path.stem) for path in paths] == list(range(COUNTS[prefix]))
        assert [path.parent.name for path in paths] == [fashion_mnist.CLASSES[k] for k in labels]
        for path, expected in zip(paths, images, strict=True):
            with Image.open(path) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.asarray(image), expected)


def test_class_folders_sort_in_label_order():
    assert sorted(fashion_mnist.CLASSES) == list(fashion_mnist.CLASSES)
    assert [re.match(r"\d", name)[0] for name in fashion_mnist.CLASSES] == list("0123456789")


def test_linking_exports_once_and_then_needs_no_archives(tmp_path):
    archives = write_archives(tmp_path / "own")
    dataset = Dataset(archives=str(archives))
    folder = tmp_path / "data/fashion-mnist"
    link(dataset, folder)
    manifest = (folder / "manifest.parquet").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert Counter(path.relative_to(folder).parts[0] for path in times) == {"train": 40, "val": 20}
    (archives / FIRST).unlink()
    link(dataset, folder)
    assert (folder / "manifest.parquet").read_bytes() == manifest
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == times


def test_a_failed_fetch_leaves_no_half_dataset(tmp_path):
    folder = tmp_path / "data/fashion-mnist"
    with pytest.raises(UserError):
        link(Dataset(archives=str(tmp_path / "absent")), folder)
    assert not (folder / "train").exists()
    assert not (folder / "manifest.parquet").exists()
    link(Dataset(archives=str(write_archives(tmp_path / "own"))), folder)
    assert len(list(folder.rglob("*.png"))) == 60
