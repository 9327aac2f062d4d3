"""Real runs that are killed, stopped, starved or fed bad numbers."""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from test_training import (
    assert_same_bits,
    command,
    dataset,
    final,
    losses,
    train_here,
    write_config,
)

from mfm.__main__ import main
from mfm.errors import StoppedError, UserError
from mfm.files.pickles import load_pickle
from mfm.models.metadata import read_metadata
from mfm.objectives.pictures import load_snapshots
from mfm.processes.lifetime import StopRequest
from mfm.training import bad_step, checkpoint, operation

__all__ = ["dataset"]  # a fixture
pytestmark = pytest.mark.processes
ROOT = Path(__file__).parent.parent
SETTINGS = {"backbone": "resnet10t", "epochs": 3, "batch": 12, "clip": 1.0}
RANKS = 3  # a sum of two has no order; three show what a resume does to it


def start(run, dataset, environment, *options, ranks=2):
    words = command(run, dataset, ranks=ranks)
    at = words.index("-m", words.index("launch"))
    return subprocess.Popen(
        [*words[:at], "--max-restarts", "2", *words[at:], "--checkpoint-steps", "3", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ranks_of(process):
    """The worker processes of a launcher, rank 0 first."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        environment = child.environ()
        if "RANK" in environment and "train" in child.cmdline():
            found[int(environment["RANK"])] = child
    return [found[rank] for rank in sorted(found)]


def assert_same_snapshots(ours, theirs):
    """The predictions kept on the way, with the first and the last step among them."""
    kept, others = (load_snapshots(run) for run in (ours, theirs))
    assert (min(kept), max(kept)) == (0, SETTINGS["epochs"])
    assert list(kept) == list(others)
    for epoch, values in kept.items():
        assert_same_bits(values, others[epoch])


def wait_for_checkpoint(run, process, *, after=0):
    deadline = time.monotonic() + 120
    while len({path.name for path in checkpoint.rolling(run)} - set(after or ())) == 0:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset):
    """A run that nobody touches."""
    run = tmp_path_factory.mktemp("whole")
    write_config(run, ranks=RANKS, **SETTINGS)
    process = start(run, dataset, {**os.environ, "OMP_NUM_THREADS": "1"}, ranks=RANKS)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return run


def test_runs_killed_at_random_moments_end_with_the_same_bits(child_environment):
    words = ["--kills", "2", "--ranks", "2", "--stages", "finetune", "--precisions", "bf16"]
    # Of all draws one that kills first the launcher, then everything, both amid the steps.
    words += ["--seed", "53"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/stress_resume.py", *words],
        env=child_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| finetune, 2 ranks, bf16 |" in done.stdout


def test_signals_stop_all_ranks_at_one_step_and_the_run_goes_on(
    tmp_path, dataset, whole, child_environment
):
    run = tmp_path / "run"
    write_config(run, ranks=RANKS, **SETTINGS)
    before = ()
    for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
        process = start(run, dataset, child_environment, ranks=RANKS)
        wait_for_checkpoint(run, process, after=before)
        if name == "SIGTERM":
            process.terminate()
        elif name == "SIGUSR1":
            ranks_of(process)[1].send_signal(signal.SIGUSR1)
        else:
            os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 75, output
        assert f"stopped by {name} " in output
        assert "start again to continue" in output
        assert "Traceback" not in output
        before = {path.name for path in checkpoint.rolling(run)}
        assert 1 <= len(before) <= 2
    process = start(run, dataset, child_environment, ranks=RANKS)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "resumed" in output
    assert_same_bits(final(whole), final(run))
    assert losses(whole) == losses(run)
    assert not (run / "rolling").exists(), "a finished run leaves its declared files only"
    assert_same_snapshots(whole, run)


def test_ctrl_c_reaches_a_run_and_its_loaders_workers_at_once(tmp_path, dataset, child_environment):
    alone, run = tmp_path / "alone", tmp_path / "run"
    for folder in (alone, run):
        write_config(folder, **SETTINGS)
    process = start(alone, dataset, child_environment, ranks=1)
    assert process.wait() == 0
    process = start(run, dataset, child_environment, "--workers", "2", ranks=1)
    wait_for_checkpoint(run, process)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "stopped by SIGINT " in output
    assert "Traceback" not in output
    process = start(run, dataset, child_environment, "--workers", "2", ranks=1)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "resumed" in output
    assert_same_bits(final(alone), final(run))


def test_a_second_ctrl_c_ends_all_ranks_at_once(tmp_path, dataset, child_environment):
    run = tmp_path / "run"
    write_config(run, ranks=2, **SETTINGS | {"epochs": 500})
    process = start(run, dataset, child_environment)
    wait_for_checkpoint(run, process)
    ranks = ranks_of(process)
    ranks[1].suspend()  # so that the others' step takes its time
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
    process.communicate(timeout=5)
    assert process.returncode == 128 + signal.SIGINT
    psutil.wait_procs(ranks, timeout=5)
    assert not any(rank.is_running() for rank in ranks)


def test_a_rank_that_dies_is_replaced(tmp_path, dataset, whole, child_environment):
    run = tmp_path / "run"
    write_config(run, ranks=RANKS, **SETTINGS)
    process = start(run, dataset, child_environment, ranks=RANKS)
    wait_for_checkpoint(run, process)
    ranks_of(process)[1].kill()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "starting all ranks again" in output
    assert_same_bits(final(whole), final(run))
    assert losses(whole) == losses(run)
    assert_same_snapshots(whole, run)


def test_a_rank_that_hangs_ends_the_run(tmp_path, dataset, child_environment):
    run = tmp_path / "run"
    write_config(run, ranks=2, **{**SETTINGS, "epochs": 500})
    words = [*command(run, dataset, ranks=2), "--timeout-minutes", "0.1", "--checkpoint-steps", "3"]
    process = subprocess.Popen(
        words,
        env={**child_environment, "MFM_SHUTDOWN_SECONDS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for_checkpoint(run, process)
    ranks_of(process)[1].suspend()
    output, _ = process.communicate(timeout=90)
    assert process.returncode not in (0, 2, 75), output
    assert checkpoint.load_rolling(run) is not None


def test_a_bad_loss_ends_the_run_and_can_be_replayed(
    tmp_path, dataset, child_environment, monkeypatch, capsys
):
    run = tmp_path / "run"
    write_config(run, **SETTINGS | {"clip": None}, optimizer={"name": "sgd", "lr": 1e38})
    done = subprocess.run(
        command(run, dataset), env=child_environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for part in ("epoch 1, step", ".png", "last good checkpoint: none yet", "`mfm replay "):
        assert part in done.stderr
    file = next((run / bad_step.FOLDER).iterdir())
    saved = load_pickle(file)
    monkeypatch.setattr(sys, "argv", ["mfm", "replay", str(file)])
    main()
    replayed = capsys.readouterr().out
    assert saved["what"] in replayed
    assert "again in fp32" in replayed
    assert "not finite" in replayed


@pytest.fixture
def interrupted(tmp_path, dataset):
    """A run that was asked to stop in its first step."""
    run = tmp_path / "run"
    write_config(run, **SETTINGS, radius=3.0)
    stop = StopRequest()
    stop.received = signal.SIGTERM
    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        train_here(run, dataset, stop=stop)
    return run


def test_a_changed_run_goes_on_where_that_is_wanted(interrupted, dataset, capsys, monkeypatch):
    run, parser = interrupted, argparse.ArgumentParser()
    monkeypatch.setenv("MFM_RESUME_CHANGED", "1")
    operation.add_arguments(parser)
    assert parser.parse_args(["--folder", str(run)]).resume_changed
    write_config(run, **SETTINGS, radius=4.0)
    with pytest.raises(UserError, match=r"\A.*config\.training\.radius.*\Z"):
        train_here(run, dataset)
    train_here(run, dataset, resume_changed=True)
    said = "continuing with another configuration: config.training.radius"
    assert said in capsys.readouterr().out
    with open(run / "metrics.csv") as file:
        assert len(list(csv.DictReader(file))) == SETTINGS["epochs"]
    said = read_metadata(run / "backbone.safetensors")
    assert said["continued_changed"] == "config.training.radius"


def test_a_run_is_not_continued_with_fewer_epochs_than_it_has_done(interrupted, dataset, tmp_path):
    """A checkpoint after epoch 2, which the state of an interrupted run is made to be."""
    later = tmp_path / "later"
    state = checkpoint.load_rolling(interrupted)
    state["position"] |= {"epoch": 2, "step": 0}
    path = checkpoint.save_rolling(state, later, epoch=2, step=0, keep=2)
    write_config(later, **SETTINGS | {"epochs": 1})
    told = "stands after epoch 2, and its configuration asks for 1 epochs"
    with pytest.raises(UserError, match=told):
        train_here(later, dataset, resume_changed=True)
    assert path.exists()
    assert not (later / "backbone.safetensors").exists()


def test_the_number_of_processes_is_the_configured_one(tmp_path, dataset):
    run = tmp_path / "run"
    write_config(run, ranks=2, **SETTINGS)
    with pytest.raises(UserError, match="1 processes were started, and ranks is 2"):
        train_here(run, dataset)


def test_replay_refuses_other_files(tmp_path, capsys, monkeypatch):
    torch.save({"a": 1}, tmp_path / "other.pt")
    for name, expected in (("other.pt", "is no saved step"), ("none.pt", "there is no file")):
        monkeypatch.setattr(sys, "argv", ["mfm", "replay", str(tmp_path / name)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err
