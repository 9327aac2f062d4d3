import functools
import io
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import finished
import pytest
import torch
from rich.console import Console

from mfm.__main__ import main
from mfm.errors import UserError
from mfm.experiment.variants import Runs
from mfm.reporting import watch
from mfm.training import status
from mfm.training.progress import Progress

HERE = socket.gethostname()
WEIGHTS = {"pretrain": "backbone.safetensors", "finetune": "model.safetensors"}


def add_run(results, name, *, stage="finetune", epochs=4, seconds=None, **settings):
    """A prepared run, or, with the seconds of its epochs, a finished one."""
    folder = results / name
    folder.mkdir(parents=True)
    values = {"stage": stage, "training": {"epochs": epochs}, **settings}
    (folder / "config.json").write_text(json.dumps(values))
    if seconds is not None:
        (folder / WEIGHTS[stage]).write_bytes(b"")
        rows = "".join(f"{i + 1},0.5,100,{s}\n" for i, s in enumerate(seconds))
        (folder / "metrics.csv").write_text("epoch,loss,images_per_second,seconds\n" + rows)
    return folder


def report(**changes):
    now = {"time": time.time(), "process": os.getpid(), "host": HERE}
    values = {"epoch": 3, "epochs": 4, "step": 5, "steps": 10, "loss": 0.25, "lr": 1e-3}
    values |= {"images_per_second": 80.0, "seconds_left": 30.0, **now, **changes}
    return status.Report(**values)


def tell(folder, **changes):
    path = folder / status.FOLDER / status.NAME
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(report(**changes))))


def states(results):
    return {run.name: run.state for run in watch.find(results)}


def test_states_of_runs(tmp_path):
    add_run(tmp_path, "pretrain/p/seed0", stage="pretrain", seconds=[1.0])
    tell(add_run(tmp_path, "finetune/a/seed2"))
    tell(add_run(tmp_path, "finetune/a/seed10"), process=2**22 + 1)
    tell(add_run(tmp_path, "finetune/b/seed0"), host="elsewhere", time=time.time() - 600)
    tell(add_run(tmp_path, "finetune/b/seed1"), host="elsewhere", process=1)
    add_run(tmp_path, "variants/labels/2/finetune/a/seed0")
    stopped = add_run(tmp_path, "finetune/b/seed3") / "rolling"
    stopped.mkdir()
    (stopped / "epoch00001-step00000000-00.pt").write_bytes(b"")
    found = states(tmp_path)
    assert found == {
        "pretrain/p/seed0": "done",
        "finetune/a/seed2": "running",
        "finetune/a/seed10": "interrupted",
        "finetune/b/seed0": "silent",
        "finetune/b/seed1": "running",
        "finetune/b/seed3": "interrupted",
        "variants/labels/2/finetune/a/seed0": "waiting",
    }
    assert list(found)[:3] == ["pretrain/p/seed0", "finetune/a/seed2", "finetune/a/seed10"]
    assert list(found)[-1].startswith("variants")


def test_time_left_of_the_whole(tmp_path):
    add_run(tmp_path, "finetune/a/seed0", seconds=[10.0] * 4)
    for seed in (1, 2):
        tell(add_run(tmp_path, f"finetune/a/seed{seed}"), epoch=2, step=10, seconds_left=20.0)
    for seed in (3, 4, 5):
        add_run(tmp_path, f"finetune/a/seed{seed}")
    # 40 s a run, two at a time: 20 + 20 of the running ones, 3 x 40 of those that wait
    assert watch.seconds_left(watch.find(tmp_path)) == pytest.approx((2 * 20 + 3 * 40) / 2)
    add_run(tmp_path, "pretrain/p/seed0", stage="pretrain")
    assert watch.seconds_left(watch.find(tmp_path)) is None


def test_a_run_that_makes_up_for_a_pretraining_says_itself_how_long_it_is(tmp_path):
    longer = {"makes_up_for": {"name": "p"}}
    add_run(tmp_path, "finetune/a/seed0", seconds=[10.0] * 4)
    add_run(tmp_path, "finetune/long/seed0", **longer)
    waiting = watch.find(tmp_path)[1]
    assert (waiting.configured, waiting.epochs) == (4, None)
    assert watch.seconds_left(watch.find(tmp_path)) is None
    add_run(tmp_path, "pretrain/p/seed0", stage="pretrain", epochs=1, seconds=[300.0])
    # As a finetuning of 4 epochs and the pretraining.
    assert watch.seconds_left(watch.find(tmp_path)) == pytest.approx(40 + 300)
    tell(tmp_path / "finetune/long/seed0", epochs=31, seconds_left=200.0)
    assert watch.seconds_left(watch.find(tmp_path)) == pytest.approx(200)
    assert watch.find(tmp_path)[2].epochs == 31
    add_run(tmp_path, "finetune/long/seed1", seconds=[10.0] * 31, **longer)
    assert "31/31" in render(tmp_path)


def test_settings_that_are_just_being_written_are_no_run_yet(tmp_path):
    add_run(tmp_path, "finetune/a/seed0")
    (add_run(tmp_path, "finetune/a/seed1") / "config.json").write_text('{"stage"')
    assert list(states(tmp_path)) == ["finetune/a/seed0"]


def test_evaluations_are_counted_where_the_workflow_leaves_them(tmp_path):
    for folder in ("", "variants/labels/2/"):
        for seed in (0, 1):
            add_run(tmp_path, f"{folder}finetune/a/seed{seed}", seconds=[1.0])
        row = tmp_path / f"{folder}evaluate/a/seed1.csv"
        row.parent.mkdir(parents=True)
        row.touch()
    assert "4 of 4 trainings done, 0 running, 2 of 4 evaluated" in render(tmp_path)


def test_what_the_present_configuration_does_not_ask_for_is_not_counted(tmp_path):
    folder = Path("fewer_seeds")
    runs = Runs(finished.experiment(folder))
    for name in runs.trainings:
        stage = name.split("/")[0]
        add_run(folder, name, stage=stage, seconds=None if name.endswith("mfm/seed2") else [1.0])
    assert render(folder).startswith("fewer_seeds: 6 of 7 trainings done")
    fewer = Runs(finished.experiment(folder, seeds=[0, 1]))
    Path(fewer.layout.asked).write_text("".join(f"{name}\n" for name in fewer.trainings))
    told = render(folder).splitlines()
    assert told[0].startswith("fewer_seeds: 5 of 5 trainings done")
    assert told[1] == "all trainings done"
    assert told[-1] == ("not counted, of an earlier configuration: finetune/mfm, finetune/scratch")


def test_a_terminal_is_drawn_on_until_all_is_done(tmp_path, monkeypatch):
    add_run(tmp_path, "pretrain/p/seed0", stage="pretrain", epochs=1)
    folder = tmp_path / "pretrain/p/seed0"

    def finish(seconds):
        assert seconds == 3.5
        (folder / WEIGHTS["pretrain"]).touch()

    output = io.StringIO()
    terminal = functools.partial(Console, file=output, force_terminal=True, width=60, height=20)
    monkeypatch.setattr("mfm.commands.watch.Console", terminal)
    monkeypatch.setattr("mfm.commands.watch.time.sleep", finish)
    monkeypatch.setattr("sys.argv", ["mfm", "watch", str(tmp_path), "--every", "3.5"])
    main()
    shown = output.getvalue()
    assert (
        shown.index("waiting: pretrain/p") < shown.index("\x1b[2K") < shown.index("all trainings")
    )


def test_it_is_there_at_once():
    program = "import sys, mfm.commands.watch; assert not {'torch', 'pandas'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def render(results, *, width=200):
    return watch.render(results, watch.find(results), width=width)


def test_what_is_printed(tmp_path, capsys, monkeypatch):
    add_run(tmp_path, "pretrain/p/seed0", stage="pretrain", epochs=1, seconds=[200.0])
    tell(add_run(tmp_path, "finetune/a/seed0"))
    add_run(tmp_path, "finetune/a/seed1")
    monkeypatch.setattr("sys.argv", ["mfm", "watch", str(tmp_path), "--once"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert "1 of 3 trainings done, 1 running, 0 of 2 evaluated" in lines[0]
    # the running one is at 2.5 of 4 epochs with 30 s to go: 80 s a run
    assert lines[1] == "about 1 min 50 s left for the trainings, at 1 at a time"
    (running,) = [line for line in lines if line.startswith("finetune/a/seed0")]
    assert running.split() == ["finetune/a/seed0", "running", "2.5/4", "0.2500", "80", "30", "s"]
    assert any("took 3 min 20 s" in line for line in lines)
    assert lines[-1] == "waiting: finetune/a"
    assert all(len(line) <= 20 for line in render(tmp_path, width=20).splitlines())


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(UserError, match="has no runs"):
        watch.find(tmp_path)


def test_a_torn_status_is_none(tmp_path):
    path = tmp_path / status.NAME
    assert status.read(path) is None
    path.write_text('{"epoch": 1')
    assert status.read(path) is None
    path.write_text("{}")
    assert status.read(path) is None


def test_a_run_tells_its_state(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: clock[0])
    path = tmp_path / "rolling" / status.NAME
    live = status.Status(path, epochs=3, steps=10, batch=8)
    progress = Progress(
        shown=False, epoch=1, epochs=3, steps=10, batch=8, first=2, ranks=2, status=live
    )
    for _ in range(5):  # steps 3 to 7 of the second epoch, a second each
        progress.step(torch.tensor(0.25), 1e-3)
        clock[0] += 1
    told = status.read(path)
    assert (told.epoch, told.step) == (2, 7)
    assert told.loss == 0.5  # two ranks' parts
    assert told.images_per_second == pytest.approx(8)
    assert told.seconds_left == pytest.approx(13)
    assert (told.host, told.process) == (HERE, os.getpid())
    assert replace(told, time=0.0) == replace(status.read(path), time=0.0)
    assert [p.name for p in path.parent.iterdir()] == [status.NAME]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90061, "1 d 1 h")],
)
def test_durations(seconds, text):
    assert watch.duration(seconds) == text
