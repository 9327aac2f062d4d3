"""What a machine refuses, told in one line."""

import errno
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from mfm.data.linking.manifest import Images
from mfm.data.loading import decoding
from mfm.data.loading.batches import ByRequest
from mfm.data.pictures import contents, headers
from mfm.errors import UserError, exits_on_user_error, explain, job_log
from mfm.files import atomic


def refused(number, path="results/x.csv"):
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "chown"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_the_machine_refuses_is_one_line_with_a_remedy(number, told, capsys):
    @exits_on_user_error
    def command():
        raise refused(number)

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mfm: error: results/x.csv: {os.strerror(number)}; ")
    assert told in line
    assert explain(pickle.loads(pickle.dumps(refused(number)))) == line.removeprefix("mfm: error: ")


def test_a_full_gpu_is_a_line_with_a_remedy():
    assert "lower micro_batch" in explain(torch.OutOfMemoryError("CUDA out of memory. Tried ..."))


def test_an_operation_that_does_not_repeat_is_named():
    said = "max_pool3d does not have a deterministic implementation, but you set 'torch.use..."
    told = explain(RuntimeError(said))
    assert told.startswith("max_pool3d gives other bits")
    assert "deterministic: false" in told
    assert explain(RuntimeError("another")) is None


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no"), ValueError("x"), OSError("x")])
def test_other_errors_are_this_programs_own(error):
    assert explain(error) is None


def test_a_script_that_ends_says_so_in_its_log(tmp_path):
    log = tmp_path / "job.log"

    def script(error):
        with job_log(log):
            print("as it goes", file=sys.stderr)
            raise error

    for error, told, code in (
        (UserError("what to change"), "mfm: error: what to change", 2),
        (refused(errno.ENOSPC), "mfm: error: results/x.csv: No space left", 2),
        (ValueError("a mistake"), "ValueError: a mistake", 1),
    ):
        with pytest.raises(SystemExit) as ended:
            script(error)
        assert ended.value.code == code
        lines = log.read_text().splitlines()
        assert lines[0] == "as it goes"
        assert lines[-1].startswith(told)
        assert ("Traceback" in log.read_text()) == (code == 1)
    assert sys.stderr.name != str(log)


def test_a_file_that_can_not_be_written_is_named_and_not_its_temporary(tmp_path):
    def full(number):
        with atomic.replacing(tmp_path / "x.csv") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, "full")  # as a write: without a name

    for number in (errno.ENOSPC, errno.EROFS):
        with pytest.raises(OSError, match=r"x\.csv") as raised:
            full(number)
        assert raised.value.filename == str(tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_whether_a_folder_can_be_written_is_known_before_it_is_there(tmp_path, monkeypatch):
    atomic.check_writable(tmp_path / "not/yet", deep=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("file"))
    atomic.check_writable(tmp_path)
    with pytest.raises(PermissionError) as raised:
        atomic.check_writable(tmp_path, deep=True)
    assert raised.value.filename == str(tmp_path / "a/b/file")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OSError, match="No space") as raised:
        atomic.check_writable(tmp_path / "not/yet")
    assert raised.value.filename == str(tmp_path)


def test_a_loader_process_tells_what_the_machine_refuses():
    class Short(ByRequest):
        def batch(self, request):
            raise refused(errno.EMFILE, "images/1.png")

    made = Short()[(0, np.arange(2))]
    assert isinstance(made, UserError)
    assert "images/1.png: Too many open files" in str(made)


def test_an_encoding_that_is_not_utf_8_is_refused():
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "mfm", "watch"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "PYTHONUTF8=1" in line


def test_an_image_is_not_called_bad_for_want_of_file_handles(tmp_path, monkeypatch):
    path = tmp_path / "1.png"
    path.write_bytes(b"some")

    def refuse(*arguments, **options):
        raise refused(errno.EMFILE, str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        headers.read(headers.Job(contents.Place(str(path))))
    images = Images(
        root=tmp_path,
        paths=["1.png"],
        labels=np.zeros(1, np.int64),
        classes=["a"],
        rows=np.zeros(1, np.int64),
        widths=np.ones(1, np.int64),
        heights=np.ones(1, np.int64),
    )
    with pytest.raises(OSError, match="Too many open files"):
        decoding.read(images, 0)
