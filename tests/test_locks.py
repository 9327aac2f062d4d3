import os
import socket
import subprocess
import sys
import time

import pytest

from mfm.errors import UserError
from mfm.processes.locks import only_writer, remove_left_locks

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


WORKFLOW = """
import sys
from pathlib import Path
from mfm.processes.locks import remove_left_locks

print(len(remove_left_locks(Path(".snakemake"))), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """Starts a process that holds the folder as a Snakemake does; gives it and what it removed."""
    monkeypatch.chdir(tmp_path)
    started = []

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", WORKFLOW], **pipes))
        return started[-1], int(started[-1].stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()


def lock(folder):
    (folder / ".snakemake/locks").mkdir(exist_ok=True)
    (folder / ".snakemake/locks/0.output.lock").touch()


def test_the_lock_of_a_killed_workflow_is_removed_and_no_other(workflow, tmp_path):
    first, _ = workflow()
    lock(tmp_path)
    second, removed = workflow()
    assert removed == 0, "its holder lives"
    first.kill()
    first.wait()
    assert workflow()[1] == 0, "it may be the second one's"
    second.kill()
    second.wait()


def test_the_next_call_removes_a_lock_that_was_left(workflow, tmp_path):
    process, _ = workflow()
    lock(tmp_path)
    process.kill()
    process.wait()
    assert workflow()[1] == 1
    assert not list((tmp_path / ".snakemake/locks").iterdir())


@pytest.mark.parametrize(
    "holders", ["", "another-host\n", f"{socket.gethostname()} and a cluster\n"]
)
def test_a_lock_of_unknown_or_of_another_hosts_holder_stays(tmp_path, holders):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake/mfm-holders").write_text(holders)
    lock(tmp_path)
    assert remove_left_locks(tmp_path / ".snakemake") == []
    assert list((tmp_path / ".snakemake/locks").iterdir())
