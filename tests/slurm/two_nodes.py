"""A real SLURM cluster of two nodes on this machine: `make test-slurm`, as root.

The workflow of configs/tiny.yaml goes through profiles/slurm, with the pretrainings on both nodes.
A pretraining and a finetuning are stopped by a signal in the middle, requeue themselves and
continue. Everything then has the bits of a run without SLURM.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
CLUSTER = Path(__file__).with_name("cluster.sh")
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
RESULTS = "results/tiny"
# Long enough to be stopped in the middle.
SETTINGS = (
    "seeds=[0]",
    "pretrain={mfm: {epochs: 40}}",
    "finetune={epochs: 60}",
    "question={arm: mfm, baseline: scratch}",
)
# What a user fits to the cluster: here little memory, no GPUs, two nodes, no accounting.
SMALL = {"gpu": 0, "mem_mb": 1500, "workers": 1}
PROFILE = {
    "default-resources": {"mem_mb": 500, "runtime": 30},
    "latency-wait": 5,
    "slurm-status-command": "squeue",
    "slurm-init-seconds-before-status-checks": 3,
}
RESOURCES = {
    "pretrain": SMALL | {"nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "mpi": "srun"},
    "finetune": SMALL | {"checkpoint_epochs": 5},
    "evaluate": SMALL,
}
# Runs that are stopped, and how SLURM's comment of their jobs ends.
STOPPED = {
    "pretrain/mfm/seed0": "rule_pretrain_wildcards__mfm_0",
    "finetune/mfm/seed0": "rule_finetune_wildcards__mfm_0",
}
# Columns that say how fast it went.
TIMES = ["images_per_second", "seconds"]


def command(*words: str, folder: Path) -> list[str]:
    configuration = ["--configfile", "configs/tiny.yaml", "--config", *SETTINGS]
    return [SNAKEMAKE, *words, "--directory", str(folder), *configuration]


def write_profile(folder: Path) -> Path:
    """profiles/slurm, fitted to this cluster."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile |= PROFILE | {"slurm-logdir": str(folder / "slurm-logs")}
    profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
    for rule, changes in RESOURCES.items():
        profile["set-resources"][rule] |= changes
    path = folder / "profile"
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(profile))
    return path


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    lab = os.environ.get("SLURMLAB") or str(tmp_path_factory.mktemp("cluster"))
    environment = os.environ | {"SLURMLAB": lab}
    before = slurm_processes()
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("stopped by SIGTERM"))
    try:
        subprocess.run([CLUSTER, "up"], env=environment, check=True)
        yield
    finally:
        subprocess.run([CLUSTER, "down"], env=environment, check=True)
    assert slurm_processes() <= before


def slurm_processes() -> set[tuple[int, str]]:
    daemons = ("slurmctld", "slurmscriptd", "slurmd", "slurmstepd", "munged")
    found = psutil.process_iter(["pid", "name"])
    return {(p.info["pid"], p.info["name"]) for p in found if p.info["name"] in daemons}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The same experiment without SLURM."""
    folder = tmp_path_factory.mktemp("local")
    subprocess.run(command("--cores", "2", folder=folder), cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def remote(cluster, tmp_path_factory):
    """The experiment on SLURM, two of its jobs stopped in the middle; its folder, those jobs."""
    folder = tmp_path_factory.mktemp("slurm")
    log = folder / "snakemake.log"
    words = command("--workflow-profile", str(write_profile(folder)), folder=folder)
    with open(log, "w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file)
    try:
        jobs = {run: stop(run, comment, folder, process) for run, comment in STOPPED.items()}
        code = process.wait(timeout=1200)
    finally:
        process.kill()
        process.wait()
    assert code == 0, log.read_text()
    return folder, jobs


def stop(run: str, comment: str, folder: Path, process: "subprocess.Popen[bytes]") -> str:
    """Signal a job when its run has left a first checkpoint; its SLURM id."""
    rolling = folder / RESULTS / run / "rolling"
    deadline = time.monotonic() + 600
    while not list(rolling.glob("epoch*.pt")):
        assert process.poll() is None, (folder / "snakemake.log").read_text()
        assert time.monotonic() < deadline, f"{run} left no checkpoint"
        time.sleep(0.1)
    running = slurm("squeue", "--noheader", "--states=RUNNING", "--format=%i %k").splitlines()
    (job,) = [line.split()[0] for line in running if line.endswith(comment)]
    slurm("scancel", "--signal=TERM", job)
    return job


def test_stopped_jobs_went_back_into_the_queue_and_continued(remote):
    folder, jobs = remote
    for run, job in jobs.items():
        assert "Restarts=1 " in slurm("scontrol", "show", "job", job)
        log = (folder / RESULTS / "logs" / f"{run}.log").read_text()
        assert re.search(r"^resumed (after|in) epoch", log, re.M), log
        (slurms,) = (folder / "slurm-logs").rglob(f"{job}.log")
        assert slurms.read_text().count("Building DAG") >= 4, "two lives, each of two Snakemakes"


def test_the_pretraining_ran_on_both_nodes(remote):
    folder, jobs = remote
    job = slurm("scontrol", "show", "job", jobs["pretrain/mfm/seed0"])
    assert "NumNodes=2 " in job
    assert "NodeList=node[1-2]" in job
    assert "2 ranks" in (folder / RESULTS / "logs/pretrain/mfm/seed0.log").read_text()


def test_the_first_job_declared_the_question(remote):
    folder, _ = remote
    assert pd.read_csv(folder / RESULTS / "question.csv")["finished"].tolist() == [0]


def test_each_finetuning_was_a_job_of_its_own(remote):
    folder, _ = remote
    assert len(list((folder / "slurm-logs/rule_finetune").rglob("*.log"))) == 3


def test_weights_and_predictions_have_the_bits_of_a_local_run(remote, local):
    folder, _ = remote
    weights = sorted((local / RESULTS).rglob("*.safetensors"))
    assert weights
    names = {path.relative_to(local) for path in weights}
    assert names == {path.relative_to(folder) for path in (folder / RESULTS).rglob("*.safetensors")}
    for path in weights:
        here, there = load_file(path), load_file(folder / path.relative_to(local))
        assert here.keys() == there.keys()
        assert all(here[name].equal(there[name]) for name in here), path
    for path in (local / RESULTS / "evaluate").rglob("*.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(path), pd.read_parquet(folder / path.relative_to(local))
        )


def test_the_table_is_that_of_a_local_run(remote, local):
    folder, _ = remote
    rows = [pd.read_csv(root / RESULTS / "results.csv") for root in (folder, local)]
    pd.testing.assert_frame_equal(*(part.drop(columns=TIMES) for part in rows))
    ours, theirs = (without_times(root / RESULTS / "table.md") for root in (folder, local))
    assert ours == theirs


def without_times(table: Path) -> str:
    """The table's text without what says how fast it went: a column, and the section on cost."""
    text, sections = re.subn(r"^## Cost\n.*?(?=^## )", "", table.read_text(), flags=re.M | re.S)
    opening, heading, below = text.partition("\n## ")
    rows = [line for line in opening.splitlines() if line.startswith("|")]
    assert rows[0].split("|")[-2].strip() == "cost (times scratch)"
    assert (sections, len(rows)) == (1, 5)
    for row in rows:
        opening = opening.replace(row, row.rsplit("|", 2)[0])
    return opening + heading + below
