"""GPUs shared out among runs, on a machine whose nvidia-smi is a script: no GPU is needed."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
import yte
from conftest import ROOT
from snakemake.utils import update_config

from mfm.errors import STOPPED_EXIT, UserError
from mfm.experiment import preflight
from mfm.experiment.settings import Experiment, load_yaml
from mfm.experiment.variants import Runs
from mfm.processes import gpus
from mfm.settings.section import parse

UNIQUE = f"GPU-test-{os.getpid()}"
FOUR = [f"GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {UNIQUE}-{index})" for index in range(4)]
DIVIDED = [
    "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-a)",
    "  MIG 3g.40gb     Device  0: (UUID: MIG-1)",
    "  MIG 3g.40gb     Device  1: (UUID: MIG-2)",
    "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)",
]
MIXED = ["GPU 0: NVIDIA T400 (UUID: GPU-small)", "GPU 1: NVIDIA L40S (UUID: GPU-large)"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Gives the function that says what the machine's nvidia-smi prints."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in (
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "MFM_RUNS_PER_GPU",
        "MFM_GPUS_OF_GROUP",
        "SLURM_JOB_ID",
        "MFM_END_WITH_PARENT",
    ):
        monkeypatch.delenv(name, raising=False)

    def lists(lines, code=0):
        text = "\n".join(lines)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        program.chmod(0o755)

    lists(FOUR)
    return lists


def uuids(lines, monkeypatch, machine, visible=None):
    machine(lines)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return [gpu.uuid.replace(f"{UNIQUE}-", "") for gpu in gpus.visible_gpus()]


@pytest.mark.parametrize(
    ("lines", "visible", "expected"),
    [
        (FOUR, None, ["0", "1", "2", "3"]),
        (FOUR, "3,1", ["3", "1"]),
        (FOUR, f"{UNIQUE}-2", ["2"]),
        (FOUR, "", []),
        (FOUR, "-1", []),
        (FOUR, "NoDevFiles", []),
        (DIVIDED, None, ["MIG-1", "MIG-2", "GPU-b"]),
        (DIVIDED, "MIG-2", ["MIG-2"]),
        (DIVIDED, "0", ["MIG-1", "MIG-2"]),
        (MIXED, "GPU-l", ["GPU-large"]),
        ([], None, []),
        ([], "0", []),
    ],
    ids=map(str, range(12)),  # a UUID has this process's number in it
)
def test_the_users_devices_are_the_pool(machine, monkeypatch, lines, visible, expected):
    assert uuids(lines, monkeypatch, machine, visible) == expected


@pytest.mark.parametrize(
    ("lines", "visible", "message"),
    [
        (FOUR, "0,4", "names 4, which nvidia-smi -L doesn't list"),
        (FOUR, "0,", "names , which"),
        (MIXED, "0", "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
    ],
)
def test_a_device_that_is_unclear_is_refused(machine, monkeypatch, lines, visible, message):
    with pytest.raises(UserError, match=message):
        uuids(lines, monkeypatch, machine, visible)


def test_the_order_of_nvidia_smi_is_taken_where_it_is_asked_for(machine, monkeypatch):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert uuids(MIXED, monkeypatch, machine, "1") == ["GPU-large"]


def test_without_gpus_nothing_is_done(machine, monkeypatch, tmp_path, capsys):
    machine(["NVIDIA-SMI has failed"], code=9)
    gpus.take(8, folder=tmp_path / "locks")
    assert "nvidia-smi finds no GPU: NVIDIA-SMI has failed" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    gpus.take(8, folder=tmp_path / "locks")
    assert not (tmp_path / "locks").exists()
    assert gpus.runs_at_once() is None


@pytest.mark.parametrize(
    ("lines", "ranks", "message"),
    [
        (FOUR, 5, r"more than the GPUs here \(4\)"),
        (DIVIDED, 2, r"more than the undivided GPUs here \(1\)"),
    ],
)
def test_too_few_gpus_are_one_line(machine, lines, ranks, message):
    machine(lines)
    with pytest.raises(UserError, match=f"ranks is {ranks}, {message}.*CUDA_VISIBLE_DEVICES="):
        gpus.take(ranks)


RUN = """
import os, sys
from pathlib import Path
from mfm.processes import gpus
from mfm.settings.section import parse

gpus.take(int(sys.argv[2]), group=int(sys.argv[2]) > 1, folder=Path(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
if sys.stdin.readline() == "start a rank\\n":
    import subprocess
    rank = "import sys; from pathlib import Path; from mfm.processes import gpus;"
    rank += "gpus.join(folder=Path(sys.argv[1])); print('joined', flush=True); sys.stdin.read()"
    subprocess.run([sys.executable, "-c", rank, sys.argv[1]])
"""


@pytest.fixture
def start(machine, tmp_path):
    """Starts a process that takes GPUs and keeps them until it is told to end."""
    started = []

    def run(ranks=1, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "locks"), str(ranks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        os.set_blocking(process.stdout.fileno(), False)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def given(process, *, within=20.0):
    """The GPUs a process has, once it has them; None if it doesn't get any in that time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if line:
            return [name.removeprefix(f"{UNIQUE}-") for name in line.strip().split(",")]
        if process.poll() is not None:
            raise AssertionError(process.stderr.read())
        time.sleep(0.02)
    return None


def test_runs_have_gpus_of_their_own_and_a_killed_one_frees_its_own(start):
    first, group = start(), None
    assert given(first) == ["0"]
    group = start(3)
    assert given(group) == ["1", "2", "3"]
    waiting = start()
    assert given(waiting, within=1.5) is None
    group.kill()
    assert given(waiting) == ["1"]
    assert given(start(2)) == ["2", "3"]


def test_a_run_that_waits_says_for_whom_and_can_be_stopped(start, monkeypatch):
    holder = start(4)
    assert given(holder) == ["None"], "all that are visible: nothing needs to be said to CUDA"
    waiting = start(2)
    assert given(waiting, within=4.5) is None
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(10) == STOPPED_EXIT
    said = waiting.stderr.read()
    assert f"waiting for 2 free of 4 GPUs; they are held by processes {holder.pid}\n" in said


def test_gpus_stay_taken_until_the_last_rank_of_a_killed_launcher_has_ended(start):
    launcher = start(4)
    given(launcher)
    launcher.stdin.write("start a rank\n")
    launcher.stdin.flush()
    assert given(launcher) == ["joined"]
    launcher.kill()
    launcher.wait()
    waiting = start()
    assert given(waiting, within=1.5) is None
    launcher.stdin.close()  # the rank's too: it ends
    launcher.stdin = None
    assert given(waiting) == ["0"]


def test_small_runs_share_gpus_where_they_are_to_and_a_group_has_its_own(start):
    some = {"CUDA_VISIBLE_DEVICES": "2,3", "MFM_RUNS_PER_GPU": "2"}
    shared = [given(start(**some)) for _ in range(4)]
    assert shared == [["2"], ["3"], ["2"], ["3"]], "the emptiest first"
    assert given(start(**some), within=1) is None
    assert given(start(CUDA_VISIBLE_DEVICES="2"), within=1) is None, "it would have it alone"
    assert given(start(2, MFM_RUNS_PER_GPU="2")) == ["0", "1"]
    assert given(start(CUDA_VISIBLE_DEVICES="0", MFM_RUNS_PER_GPU="2"), within=1) is None


def test_a_run_goes_to_the_gpu_with_the_fewest_whatever_has_ended(start):
    runs = [start(CUDA_VISIBLE_DEVICES=which, MFM_RUNS_PER_GPU="4") for which in "0001"]
    assert [given(run) for run in runs] == [["0"]] * 3 + [["1"]]
    runs[0].kill()
    runs[0].wait()
    assert given(start(CUDA_VISIBLE_DEVICES="0,1", MFM_RUNS_PER_GPU="4")) == ["1"]


def test_a_slurm_job_keeps_what_slurm_gave(start):
    job = {"SLURM_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "1"}
    assert given(start(**job)) == given(start(**job)) == ["1"], "SLURM may share one on purpose"
    # and runs side by side in one allocation share out what it has
    job["CUDA_VISIBLE_DEVICES"] = "2,3"
    assert [given(start(**job)) for _ in range(2)] == [["2"], ["3"]]


CONTENTION = """
import os, random, signal, sys, time
from pathlib import Path
from mfm.processes import gpus
from mfm.settings.section import parse

folder, runs = Path(sys.argv[1]), []
for number in range(24):
    if pid := os.fork():
        runs.append(pid)
        continue
    draw = random.Random(number)
    ranks = draw.choice([1, 1, 2, 3])
    gpus.take(ranks, group=ranks > 1, folder=folder)
    marks = [folder / f"mark{uuid}" for uuid in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    assert len(marks) == ranks
    try:
        for mark in marks:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        time.sleep(draw.random() / 10)
        for mark in marks:
            mark.unlink()
    except OSError as error:
        print("taken twice:", error, flush=True)
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)
codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in runs}
print(codes)
"""


def test_no_gpu_is_taken_twice_by_many_that_want_them(machine, tmp_path):
    command = [sys.executable, "-c", CONTENTION, str(tmp_path / "locks")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{{-{int(signal.SIGKILL)}}}\n", done.stderr


def test_every_user_can_use_the_locks(start, tmp_path):
    given(start())
    assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "locks").iterdir()} == {0o666}


RANK = """
import os
from mfm.processes.ranks import begin

begin()
held = os.environ["CUDA_VISIBLE_DEVICES"]
locks = [line.split() for line in open("/proc/locks")]
own = sum(line[1] == "POSIX" and line[4] == str(os.getpid()) for line in locks)
print(f"rank {os.environ.get('RANK', 'alone')} {held} {own}", flush=True)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_launcher_and_a_single_run_take_gpus(machine, tmp_path, monkeypatch, ranks):
    (tmp_path / "rank.py").write_text(RANK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT / 'src'}")
    command = [sys.executable, "-m", "mfm", "launch", "--standalone", "--nproc-per-node"]
    try:
        done = subprocess.run(
            [*command, str(ranks), "-m", "rank"], capture_output=True, text=True, timeout=120
        )
    finally:
        for file in gpus.FOLDER.glob(f"{UNIQUE}-*"):
            file.unlink()
    said = sorted(line for line in done.stdout.splitlines() if line.startswith("rank"))
    names = ",".join(f"{UNIQUE}-{index}" for index in range(ranks))
    expected = [f"rank {rank} {names} {ranks}" for rank in range(ranks)]
    assert said == (expected if ranks > 1 else [f"rank alone {names} 1"]), done.stderr


def test_the_profile_limits_jobs_to_the_machines_gpus(machine, monkeypatch):
    def limit():
        with open(ROOT / "profiles/default/config.yaml") as file:
            return yte.process_yaml(file, require_use_yte=True).get("resources")

    assert limit() == {"gpu": 4}
    monkeypatch.setenv("MFM_RUNS_PER_GPU", "8")
    assert limit() == {"gpu": 32}
    assert (gpus.share(1), gpus.share(2)) == (1, 16)
    machine([])
    assert limit() is None, "on a CPU, pretrainings go side by side"


def test_a_wrong_number_of_runs_is_one_line(machine, monkeypatch):
    monkeypatch.setenv("MFM_RUNS_PER_GPU", "0")
    with pytest.raises(UserError, match="MFM_RUNS_PER_GPU is 0: set a number from 1 up"):
        gpus.take()


@pytest.mark.parametrize("here", [True, False], ids=["here", "on a cluster"])
def test_before_anything_runs_a_training_that_lacks_gpus_is_told_of(
    machine, tmp_path, monkeypatch, here
):
    monkeypatch.chdir(tmp_path)
    tiny = ROOT / "configs/tiny.yaml"  # pretrainings of two ranks
    runs = Runs(load_yaml(tiny))
    told = "ranks is 2, more than the GPUs here (1)"
    assert not any(told in line for line in preflight.remarks(runs, here=here))
    machine(FOUR[:1])
    assert any(told in line for line in preflight.remarks(runs, here=here)) == here


def test_the_experiment_for_a_gpu_is_what_its_head_says():
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(values, yaml.safe_load((ROOT / "configs/fashion-resnet18.yaml").read_text()))
    experiment = parse(Experiment, values, where="test")
    runs = Runs(experiment)
    preflight.check(runs)
    assert preflight.remarks(runs, here=False) == []
    assert len(runs.pretrainings) == 8 + 1
    assert len(runs.finetunings) == 16 * len(experiment.arms)
    assert experiment.pretrain["mfm"].epochs == 3
