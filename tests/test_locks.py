import os
import subprocess
import sys
import time

import pytest

from mfm.errors import UserError
from mfm.processes.locks import only_writer

HOLDER = """
import sys
from pathlib import Path
from mfm.processes.locks import only_writer

with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def hold(run, *, wait_seconds=0.0):
    with only_writer(run, wait_seconds=wait_seconds):
        return (run / ".lock").read_text()


def test_the_holder_is_named_to_everyone_who_asks(holder, tmp_path):
    for _ in range(2):
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
            hold(tmp_path)


def test_a_start_waits_for_a_process_that_is_just_ending(holder, tmp_path):
    began = time.monotonic()
    with pytest.raises(UserError):
        hold(tmp_path, wait_seconds=0.7)
    assert time.monotonic() - began >= 0.7
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert f"process {os.getpid()} on " in hold(tmp_path, wait_seconds=30)


def test_a_killed_process_leaves_no_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert f"process {os.getpid()} on " in hold(tmp_path)
