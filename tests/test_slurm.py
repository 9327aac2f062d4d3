"""How `mfm slurm` starts and requeues; tests/slurm/ does it on a real cluster."""

import os
import signal
import subprocess
import sys

import pytest

from mfm.errors import UserError
from mfm.processes import slurm

LAUNCH = [sys.executable, "-m", "mfm", "launch"]


def command(**changes):
    options = {"nodes": 2, "ranks": 8, "threads": 16, "gpus": 8, "job": "40001", "host": "first"}
    return slurm.launch_command(["-m", "mfm", "train"], **(options | changes))


def test_one_node_starts_as_without_slurm():
    assert command(nodes=1) == [
        *LAUNCH,
        *("--standalone", "--nproc-per-node", "8", "-m", "mfm", "train"),
    ]


def test_several_nodes_get_one_launcher_each_that_meet_on_the_first():
    words = command()
    step, group = words[: words.index(LAUNCH[0])], words[words.index("launch") + 1 :]
    assert step[0] == "srun"
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=16"} < set(step)
    assert "--gpus-per-node=4" in step
    options = dict(zip(group[0:10:2], group[1:10:2], strict=True))
    assert options == {
        "--nnodes": "2",
        "--nproc-per-node": "4",
        "--rdzv-id": "40001",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "first:10001",
    }
    assert group[10:] == ["-m", "mfm", "train"]
    assert not [word for word in command(gpus=0) if "gpu" in word]


@pytest.mark.parametrize("changes", [{"ranks": 7}, {"gpus": 7}])
def test_processes_divide_evenly_by_the_nodes(changes):
    with pytest.raises(UserError, match="is 7, which does not divide by the 2 nodes"):
        command(**changes)


class Cluster:
    """Answers for squeue and scontrol, and what they were asked."""

    def __init__(self, state, refusal=""):
        self.state, self.refusal, self.asked = state, refusal, []

    def run(self, words):
        self.asked.append(words[0])
        if words[0] == "squeue":
            return subprocess.CompletedProcess(words, 0, f"{self.state}\n", "")
        assert words == ["scontrol", "requeue", "7"]
        return subprocess.CompletedProcess(words, bool(self.refusal), "", self.refusal)


def test_a_running_job_is_requeued():
    cluster = Cluster("RUNNING")
    assert "back in the queue" in slurm.requeue("7", run=cluster.run)
    assert cluster.asked == ["squeue", "scontrol"]


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", "PENDING", "TIMEOUT", ""])
def test_no_other_job_is_requeued(state):
    cluster = Cluster(state)
    assert "not requeued" in slurm.requeue("7", run=cluster.run)
    assert cluster.asked == ["squeue"]


def test_a_refusal_is_told():
    told = slurm.requeue("7", run=Cluster("RUNNING", refusal="disabled").run)
    assert told == "scontrol could not requeue it: disabled"


def test_outside_of_a_job_it_says_what_to_do(child_environment):
    environment = {k: v for k, v in child_environment.items() if not k.startswith("SLURM_")}
    done = subprocess.run(
        [sys.executable, "-m", "mfm", "slurm", "--ranks", "1", "--", "-m", "mfm", "train"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mfm: error: this is no SLURM job: use --workflow-profile")


SCRIPT = """\
import sys
from mfm.processes import slurm
code = slurm._wait_for([sys.executable, "-c", '''
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
print("ready", flush=True)
time.sleep(30)
'''])
print(code)
"""


def test_it_waits_for_a_launcher_that_was_signalled_as_well(child_environment):
    """As SLURM does it: every process of the step gets the signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=child_environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.read() == "75\n"
    assert process.wait() == 0
