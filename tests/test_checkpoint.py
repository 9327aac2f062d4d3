import errno
import os
import pickle
import re
import resource
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm.errors import UserError, explain, one_line
from mfm.files import atomic
from mfm.files.atomic import explaining_full_disk
from mfm.files.pickles import load_pickle
from mfm.training import checkpoint


def state(number=0):
    return {
        "model": {"weight": torch.full((64, 64), float(number))},
        "step": number,
        "seconds": 0.1 * number,
        "history": [{"loss": 1.5, "epoch": k} for k in range(3)],
        "rng": torch.arange(16, dtype=torch.uint8),
    }


def save(run, number, *, keep=3):
    return checkpoint.save_rolling(state(number), run, epoch=number, step=10 * number, keep=keep)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGES = (cut, flip_a_bit, empty)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_space(content, path):
    path.write_bytes(b"half a checkpoint")
    raise OSError(errno.ENOSPC, "No space left on device")


def torch_write_error(content, path):
    path.write_bytes(b"half a checkpoint")
    raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598")


def test_a_state_makes_a_round_trip(tmp_path):
    assert checkpoint.load_rolling(tmp_path) is None
    save(tmp_path, 3)
    found = checkpoint.load_rolling(tmp_path)
    expected = state(3)
    assert torch.equal(found["model"].pop("weight"), expected["model"].pop("weight"))
    assert torch.equal(found.pop("rng"), expected.pop("rng"))
    assert found == expected


def test_the_newest_is_loaded(tmp_path):
    for number in (9, 10, 100, 99):
        save(tmp_path, number, keep=9)
    assert checkpoint.load_rolling(tmp_path)["step"] == 100


def test_steps_within_an_epoch_are_ordered(tmp_path):
    for step in (9, 1000, 10):
        checkpoint.save_rolling(state(step), tmp_path, epoch=1, step=step, keep=9)
    assert checkpoint.load_rolling(tmp_path)["step"] == 1000


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_pruning_keeps_the_newest(tmp_path, keep):
    for number in range(1, 6):
        save(tmp_path, number, keep=keep)
        kept = checkpoint.rolling(tmp_path)
        assert [load_pickle(path)["step"] for path in kept] == list(
            range(number, max(0, number - keep), -1)
        )
        assert len(files(tmp_path)) == len(kept)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_passed_over_and_told(tmp_path, capsys, damage):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    damage(newest)
    assert checkpoint.load_rolling(tmp_path)["step"] == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert str(newest) in told
    assert "damaged" in told.replace(str(newest), "")


def test_a_whole_newest_is_loaded_silently(tmp_path, capsys):
    save(tmp_path, 1)
    save(tmp_path, 2)
    checkpoint.load_rolling(tmp_path)
    assert capsys.readouterr().err == ""


def test_several_damaged_ones_are_passed_over(tmp_path, capsys):
    _, second, third = (save(tmp_path, number) for number in (1, 2, 3))
    cut(second)
    flip_a_bit(third)
    assert checkpoint.load_rolling(tmp_path)["step"] == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_only_damaged_ones_are_a_user_error(tmp_path):
    for number, damage in enumerate(DAMAGES):
        damage(save(tmp_path, number))
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "rolling"))):
        checkpoint.load_rolling(tmp_path)


def test_a_checkpoint_under_anothers_name_is_not_taken_for_it(tmp_path):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    newer.write_bytes(older.read_bytes())
    assert checkpoint.load_rolling(tmp_path)["step"] == 1
    older.unlink()
    with pytest.raises(UserError):
        checkpoint.load_rolling(tmp_path)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=50)
def test_any_flipped_bit_is_found(tmp_path_factory, position, bit):
    run = tmp_path_factory.mktemp("run")
    path = checkpoint.save_rolling({"step": 1}, run, epoch=1, step=1, keep=1)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load_rolling(run)


def test_a_checkpoint_older_than_damaged_ones_outlives_pruning(tmp_path):
    # The run goes on from 1 and is checkpointed again before it comes to 2.
    save(tmp_path, 1)
    for number in (2, 3):
        cut(save(tmp_path, number))
    assert checkpoint.load_rolling(tmp_path)["step"] == 1
    path = checkpoint.save_rolling(state(15), tmp_path, epoch=1, step=15, keep=2)
    assert path.exists()
    assert checkpoint.load_rolling(tmp_path)["step"] == 15


@pytest.mark.parametrize("write", [no_space, torch_write_error])
def test_a_failed_write_leaves_the_older_ones(tmp_path, monkeypatch, write):
    save(tmp_path, 1, keep=1)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", write)
        with pytest.raises((OSError, UserError)) as caught:
            save(tmp_path, 2, keep=1)
    message = explain(caught.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "rolling"))
    assert "free some space there and start again" in message
    assert files(tmp_path) == before
    assert checkpoint.load_rolling(tmp_path)["step"] == 1


@contextmanager
def small_files():
    """A system that takes no file of more than 8 kB, as a full disk would not.

    Only around the write itself: pytest's own report may go to a file that is longer already.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_really_fails_leaves_the_older_ones(tmp_path):
    save(tmp_path, 1)
    before = files(tmp_path)
    with small_files(), pytest.raises((OSError, UserError)) as caught:
        save(tmp_path, 2)
    assert "start again" in explain(caught.value)
    assert files(tmp_path) == before


def test_a_copy_is_whole_or_told(tmp_path):
    source = save(tmp_path, 1)
    checkpoint.copy(source, tmp_path / "out/final.pt")
    assert (tmp_path / "out/final.pt").read_bytes() == source.read_bytes()
    with small_files(), pytest.raises(OSError, match=r"other\.pt"):
        checkpoint.copy(source, tmp_path / "out/other.pt")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["final.pt"]


def test_leftovers_of_a_killed_write_are_no_checkpoints(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "rolling/unnamed.pt").write_bytes(b"torn")
    (tmp_path / "rolling/.unnamed.pt.tmp-1").write_bytes(b"torn")
    assert checkpoint.load_rolling(tmp_path)["step"] == 1
    save(tmp_path, 2)
    assert checkpoint.load_rolling(tmp_path)["step"] == 2


def test_nothing_is_left_of_a_finished_run(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "metrics.csv").write_text("epoch\n")
    checkpoint.remove_rolling(tmp_path)
    checkpoint.remove_rolling(tmp_path)
    assert list(files(tmp_path)) == ["metrics.csv"]
    assert checkpoint.load_rolling(tmp_path) is None


class RunsCode:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def test_a_rolling_checkpoint_that_would_run_code_is_refused(tmp_path):
    proof = tmp_path / "proof"
    path = checkpoint.save_rolling(
        {"extra": RunsCode(proof)}, tmp_path / "run", epoch=1, step=1, keep=1
    )
    with pytest.raises(UserError, match="refused"):
        checkpoint.load_rolling(tmp_path / "run")
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"PK\x03\x04", pickle.dumps({"a": 1}, protocol=2)[:-3], b"\x80"],
    ids=["empty", "text", "torn zip", "torn pickle", "one byte"],
)
def test_a_file_that_is_no_checkpoint_is_told(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "x.pth"))):
        load_pickle(tmp_path / "x.pth")


@given(content=st.binary(max_size=40))
@settings(deadline=None)
def test_no_bytes_at_all_are_more_than_a_user_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "junk.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"junk\.pth"):
        load_pickle(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"PK\x03\x04"], ids=["empty", "page", "torn"]
)
def test_a_damaged_file_is_not_suspected_of_running_code(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_pickle(tmp_path / "x.pth")
    assert "not a readable checkpoint" in str(caught.value)


def test_a_replaced_file_appears_whole(tmp_path):
    path = tmp_path / "new/folder/file.txt"
    with atomic.replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # a rename within one file system
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [True, False])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error, written):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def replace():
        with atomic.replacing(path) as temporary:
            if written:
                temporary.write_text("half")
            raise error

    with pytest.raises(error):
        replace()
    assert files(tmp_path) == {"file.txt": b"old"}


def test_a_file_never_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic.replacing(tmp_path / "file.txt"):
        pass
    assert files(tmp_path) == {}


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1]
        )
    atomic.write_text(tmp_path / "file.txt", "é")
    assert order == ["fsync", "replace", "fsync"]
    assert (tmp_path / "file.txt").read_text() == "é"


@given(text=st.text(max_size=50))
@settings(deadline=None)
def test_one_line_is_one_line(text):
    assert len(one_line(ValueError(text)).splitlines()) <= 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("PytorchStreamWriter failed writing file", UserError),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", RuntimeError),
    ],
)
def test_a_killed_loader_process_is_no_full_disk(tmp_path, message, expected):
    with pytest.raises(expected) as raised, explaining_full_disk(tmp_path / "x.pt"):
        raise RuntimeError(message)
    assert ("free some space" in str(raised.value)) == (expected is UserError)
