import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mfm.data.linking import manifest, scan
from mfm.data.linking.division import Division
from mfm.data.pictures import headers
from mfm.data.pictures.contents import Place
from mfm.data.pictures.headers import Job
from mfm.data.pictures.reading import Reading
from mfm.errors import UserError
from mfm.processes import pool


def encoded(seed=0, *, size=(9, 7), image_format="PNG", mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    seed = 0
    for split, count in (("train", 5), ("val", 2)):
        for name in ("ape", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / split / name / f"{number}.png").write_bytes(encoded(seed))
                seed += 1
    return tmp_path


def rows(folder):
    return {row["path"]: row for row in pq.read_table(folder / "manifest.parquet").to_pylist()}


def left_out(folder):
    with open(folder / "left_out.csv", newline="") as file:
        return {row["path"]: row["kind"] for row in csv.DictReader(file)}


def test_unchanged_files_are_not_read_again(folder, monkeypatch):
    first = scan.scan(folder)
    assert (first.read, first.unchanged) == (14, 0)
    before = (folder / ".scan.parquet").read_bytes()

    def refuse(*_, **__):
        raise AssertionError("read again")

    monkeypatch.setattr(Image, "open", refuse)
    second = scan.scan(folder)
    assert (second.read, second.unchanged) == (0, 14)
    assert (folder / ".scan.parquet").read_bytes() == before


def change_content(path):
    status = path.stat()
    path.write_bytes(encoded(99))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def change_size(path):
    status = path.stat()
    path.write_bytes(encoded(99) + b"more")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [change_content, change_size])
def test_a_changed_file_is_read_again(folder, change):
    manifest.write(folder)
    before = rows(folder)
    path = "train/bee/3.png"
    change(folder / path)
    assert manifest.write(folder).read == 1
    after = rows(folder)
    assert after.pop(path)["content"] != before.pop(path)["content"]
    assert after == before


def test_added_removed_and_renamed_files_are_told_apart(folder):
    manifest.write(folder)
    (folder / "train/ape/2.png").unlink()
    (folder / "train/ape/10.png").write_bytes(encoded(50))
    (folder / "train/bee/0.png").rename(folder / "train/bee/zero.png")
    (folder / "val/bee/sub").mkdir()
    (folder / "val/bee/sub/0.png").write_bytes(encoded(51))
    found = manifest.write(folder)
    assert (found.read, found.unchanged) == (3, 12)
    partly = rows(folder)
    (folder / ".scan.parquet").unlink()
    manifest.write(folder)
    assert rows(folder) == partly


def test_a_new_class_keeps_what_is_known_of_the_others(folder):
    manifest.write(folder)
    for split in ("train", "val"):
        shutil.copytree(folder / split / "ape", folder / split / "aardvark")
    assert manifest.write(folder).unchanged == 14
    assert {row["label"] for row in rows(folder).values() if row["class"] == "bee"} == {2}


@pytest.mark.parametrize("damage", [b"", b"not parquet", None])
def test_a_damaged_last_scan_is_read_anew(folder, damage):
    manifest.write(folder)
    before = rows(folder)
    path = folder / ".scan.parquet"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    assert manifest.write(folder).read == 14
    assert rows(folder) == before


def test_a_touched_file_is_not_another_dataset(folder):
    manifest.write(folder)
    path = folder / "manifest.parquet"
    before, digest = path.read_bytes(), manifest.digests(path)
    os.utime(folder / "train/ape/0.png")
    assert manifest.write(folder).read == 1
    assert path.read_bytes() == before
    assert manifest.digests(path) == digest


def test_other_pixels_of_equal_size_are_another_dataset(folder):
    path = folder / "train/ape/0.bmp"
    Image.new("RGB", (9, 7), "red").save(path)
    manifest.write(folder)
    digest, size = manifest.digests(folder / "manifest.parquet"), path.stat().st_size
    Image.new("RGB", (9, 7), "lime").save(path)
    assert path.stat().st_size == size
    manifest.write(folder)
    assert manifest.digests(folder / "manifest.parquet") != digest


def test_order_is_that_of_the_paths_parts(folder):
    for name in ("a/b.png", "a-1.png", "a.png", "b/c/d.png", "b/c.png", "B.png"):
        path = folder / "train/ape" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded())
    manifest.write(folder)
    found = [path.split("/") for path in rows(folder)]
    train = [parts for parts in found if parts[0] == "train"]
    assert train == sorted(train)
    assert found == train + sorted(parts for parts in found if parts[0] == "val")


def test_modes_formats_and_contents(folder):
    content = encoded(1, size=(30, 20), image_format="JPEG", mode="L")
    (folder / "val/ape/grey.png").write_bytes(content)  # a JPEG, whatever its name says
    (folder / "val/bee/again.jpg").write_bytes(content)
    manifest.write(folder)
    one, two = rows(folder)["val/ape/grey.png"], rows(folder)["val/bee/again.jpg"]
    assert (one["width"], one["height"], one["bytes"]) == (30, 20, len(content))
    assert (one["mode"], one["format"]) == ("L", "JPEG")
    digest = hashlib.blake2b(content, digest_size=8).digest()
    assert one["content"] == two["content"] == int.from_bytes(digest, "little")


def damage(folder):
    whole = encoded(3, size=(64, 64), image_format="JPEG")
    for name, content in (
        ("empty.jpg", b""),
        ("cut.jpg", whole[: len(whole) // 2]),
        ("page.jpg", b"<html>404</html>"),
        ("notes.txt", b"hello"),
    ):
        (folder / "train/bee" / name).write_bytes(content)
    return {
        "train/bee/empty.jpg": "zero bytes",
        "train/bee/cut.jpg": "truncated",
        "train/bee/page.jpg": "not an image",
        "train/bee/notes.txt": "other file",
    }


def test_bad_images_stop_and_are_listed(folder):
    bad = damage(folder)
    with pytest.raises(UserError, match=r"^3 unreadable images: .*on_bad_image") as caught:
        manifest.write(folder)
    assert str(folder / "left_out.csv") in str(caught.value)
    assert left_out(folder) == bad
    assert not (folder / "manifest.parquet").exists()


def test_bad_images_can_be_skipped_and_are_listed(folder):
    manifest.write(folder)
    before = rows(folder)
    bad = damage(folder)
    found = manifest.write(
        folder, reading=Reading(on_bad_image="skip"), division=Division(holdout_per_class=4)
    )
    assert (found.bad.total(), found.read, found.unchanged) == (3, 4, 14)
    assert left_out(folder) == bad
    held = {path for path, row in rows(folder).items() if row["split"] == "holdout"}
    assert len(held) == 8
    manifest.write(folder, reading=Reading(on_bad_image="skip"))
    assert rows(folder) == before


def test_after_a_bad_image_is_removed_the_others_are_not_read_again(folder):
    (folder / "train/ape/bad.jpg").write_bytes(b"")
    with pytest.raises(UserError):
        manifest.write(folder)
    (folder / "train/ape/bad.jpg").unlink()
    assert manifest.write(folder).read == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_of_bad_images_alone_is_named(folder, split):
    for path in (folder / split / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=f"all images of {split}/bee are unreadable"):
        manifest.write(folder, reading=Reading(on_bad_image="skip"))


def test_a_link_to_a_folder_above_is_told(folder):
    (folder / "train/ape/up").symlink_to(folder / "train")
    with pytest.raises(UserError, match="train/ape/up/ape lies in itself"):
        manifest.write(folder)


def test_a_folder_linked_from_elsewhere_counts(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "x.png").write_bytes(encoded(70))
    (folder / "train/ape/more").symlink_to(other)
    manifest.write(folder)
    assert "train/ape/more/x.png" in rows(folder)


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "train/ape/pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png \(not a file\)"):
        manifest.write(folder)


def test_the_largest_images_are_read_without_a_warning(folder, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # 63 pixels: warned of, not refused
    manifest.write(folder)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    os.utime(folder / "val/ape/0.png")
    told = r"1 unreadable image.*0\.png \(0\.0 megapixels, and Pillow's limit is 0\.0: make it"
    with pytest.raises(UserError, match=told):
        manifest.write(folder)


@pytest.mark.parametrize("count", [0, 1, 255, 2000])
def test_results_stream_in_order_from_any_number_of_items(count):
    taken = []

    def items():
        for number in range(count):
            taken.append(number)
            yield number

    results = pool.stream_in_processes(str, items(), count=count, title="test", chunk=64)
    found = []
    for result in results:
        found.append(result)
        # Never all items at once: 5 chunks for each of the processes, and one in hand.
        assert len(taken) - len(found) <= 64 * (5 * len(os.sched_getaffinity(0)) + 1)
    assert found == [str(number) for number in range(count)]


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        pool.map_in_processes((1).__truediv__, [*range(1, 900), 0], title="test")


def test_a_file_of_an_unreadable_kind_is_told(tmp_path):
    path = tmp_path / "x.jpg"
    assert headers.read(Job(Place(str(path)))).kind == "unreadable"
    path.write_bytes(encoded())
    facts = headers.read(Job(Place(str(path))))
    assert (facts.width, facts.height, facts.mode, facts.format) == (9, 7, "RGB", "PNG")
    assert headers.read(Job(Place(str(path)), (facts.bytes, facts.mtime_ns))) is None
    assert headers.read(Job(Place(str(path)), (facts.bytes, facts.mtime_ns - 1))) == facts


@pytest.mark.processes
def test_workers_end_with_a_killed_process():
    program = (
        "import time\nfrom mfm.processes.pool import map_in_processes\n"
        "print('up', flush=True)\n"
        "map_in_processes(time.sleep, [30.0] * 100, title='x', chunk=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    process.stdout.readline()
    watched = psutil.Process(process.pid)
    deadline = time.monotonic() + 30
    while len(children := watched.children()) < min(2, len(os.sched_getaffinity(0))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone
    assert not alive
