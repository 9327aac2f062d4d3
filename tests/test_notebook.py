"""Experiments from Python: drafted, run and read in a notebook."""

import re
import signal
import sys
from pathlib import Path

import finished
import nbclient
import nbformat
import pandas as pd
import pytest
import yaml
from conftest import ROOT

import mfm
from mfm.calling import experiment as calling
from mfm.errors import UserError
from mfm.evaluation.metrics import TOP1
from mfm.planning import drafting
from mfm.reporting.finished import read
from mfm.reporting.frame import frame

NOTEBOOK = ROOT / "docs/notebook.ipynb"


@pytest.fixture
def experiment(tmp_path, finished_results):
    """The small finished one, from its file."""
    file = tmp_path / "mine.yaml"
    values = finished.EXPERIMENT | {"results": str(finished_results)}
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return mfm.Experiment(file)


def test_the_table_is_numbers(experiment):
    table = experiment.table()
    rows = pd.read_csv(experiment.layout.rows)
    assert list(table.index) == ["scratch", "mfm"]
    assert list(table.columns)[:4] == [TOP1, "low", "high", "difference"]
    means = rows.groupby("arm")[TOP1].mean()
    assert table[TOP1].to_dict() == pytest.approx(means.to_dict())
    assert table.loc["mfm", "difference"] == pytest.approx(means["mfm"] - means["scratch"])
    assert table.loc["scratch", "verdict"] == "baseline"
    assert pd.isna(table.loc["scratch", "difference"])
    assert (table["low"] < table[TOP1]).all()
    assert (table["high"] > table[TOP1]).all()
    assert table["runs"].tolist() == [3, 3]
    assert table.loc["scratch", "cost"] == 1
    assert experiment.runs().equals(read(experiment.settings).results)
    pd.testing.assert_frame_equal(frame(read(experiment.settings)), table)
    assert table[["low", "high"]].stack().between(0, 100).all()  # as in table.md


def test_the_answer_is_the_tables_first_sentence(experiment):
    assert (
        "given this one pretraining: mfm is not distinguishable from scratch" in experiment.answer
    )


def test_figures_show_themselves(experiment):
    figure = experiment.figures["difference"]
    assert figure._repr_svg_().lstrip().startswith("<?xml")
    assert repr(figure).startswith("Figure('")
    assert "accuracy" in experiment.figures


def test_an_experiment_that_came_along_has_its_name_and_others_are_laid_over_it(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("seeds: [7]\n")
    assert mfm.Experiment("tiny").settings.results == "results/tiny"
    both = mfm.Experiment("tiny", over)
    assert (both.settings.seeds, both.settings.results) == ([7], "results/tiny")
    with pytest.raises(UserError, match="'nothing' is no configuration"):
        mfm.Experiment("tiny", "nothing")


def test_nothing_is_read_before_it_was_run(tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text(f"results: {tmp_path}/none\n")
    with pytest.raises(UserError, match=r"results\.csv is not there yet: call \.run\(\) first"):
        mfm.Experiment(file).table()


def test_a_folder_is_drafted_once(tmp_path, monkeypatch, capsys):
    asked = []

    def draft(folder, out, *, labels, seconds):
        asked.append((folder, seconds))
        out.write_text(f"dataset: {{source: {folder}}}\n")

    monkeypatch.setattr(drafting, "draft_file", draft)
    out, pictures, others = (tmp_path / name for name in ("mine.yaml", "pictures", "others"))
    for folder in (pictures / "a", pictures / "b", others / "a", others / "b"):
        folder.mkdir(parents=True)
        (folder / "1.png").touch()
    for _ in range(2):
        found = mfm.Experiment.from_folder(pictures, out=out, time="30m")
        assert found.settings.dataset.source == str(pictures)
    assert asked == [(pictures, 1800.0)]
    assert capsys.readouterr().out == f"{out} is there, and taken as it is.\n"
    with pytest.raises(UserError, match="another folder's experiment: give another name as out"):
        mfm.Experiment.from_folder(others, out=out)
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na/1.png,a\nb/1.png,b\n")
    with pytest.raises(UserError, match="with other labels: give another name as out"):
        mfm.Experiment.from_folder(pictures, out=out, labels=labels)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mfm.Experiment.from_folder("~/pictures", out="~/mine.yaml").files == [out]


def called(monkeypatch, experiment, program):
    """Run a program in Snakemake's place."""
    monkeypatch.setattr(calling, "command", lambda files, words: [sys.executable, "-c", program])
    return experiment.run("-n")


def test_a_run_shows_its_progress(experiment, monkeypatch, capsys):
    program = """
print("mfm: note: something to know")
print("[10:00:00] pretrain pretraining=mfm seed=0")
print("[10:00:01] 3 of 9 done: pretrain pretraining=mfm seed=0")
"""
    assert called(monkeypatch, experiment, program) is experiment
    said = capsys.readouterr().out
    assert "mfm: note: something to know\n" in said
    assert "0 of ? jobs" in said
    assert re.search(r"3 of 9 jobs .* pretrain pretraining=mfm seed=0", said)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (["[10:00:00] failed: table", "mfm: error: table: a reason"], "table: a reason"),
        (["some trouble"], "some trouble"),
    ],
)
def test_a_run_that_failed_says_why(printed, said, experiment, monkeypatch):
    program = f"import sys\nfor line in {printed!r}: print(line)\nsys.exit(1)"
    with pytest.raises(UserError) as error:
        called(monkeypatch, experiment, program)
    assert str(error.value) == said


def test_an_interrupt_reaches_the_workflow_and_its_jobs(experiment, monkeypatch, tmp_path):
    left = tmp_path / "left"
    program = f"""
import os, signal, sys, time
def stop(number, frame):
    with open({str(left)!r}, "a") as text:
        text.write(str(number))
    if job:
        os.waitpid(job, 0)
    sys.exit(1)
job = None
signal.signal(signal.SIGINT, stop)
job = os.fork()  # which Snakemake waits for, and doesn't tell of the interrupt
if job:
    print("ready", flush=True)
for _ in range(600):  # and no pause(), which a signal just before it does not end
    time.sleep(0.1)
"""

    def interrupted(self, line):
        raise KeyboardInterrupt

    monkeypatch.setattr(calling._Progress, "show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        called(monkeypatch, experiment, program)
    assert left.read_text() == 2 * str(int(signal.SIGINT))


# The half-minute in which `mfm init` times steps, in a cell before the first.
TIMED = """
from mfm.planning import speeds
_fast = speeds.Speed(start=4.0, load=0.001, compute=0.004, checkpoint=0.05, evaluate=0.002,
                     weights=5e6, memory=600, number_format="fp32")
speeds.measure = lambda draft, work: speeds.Speeds(size=draft.size, pretrain=_fast, finetune=_fast)
"""


@pytest.mark.processes
def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(TIMED))
    (run,) = (cell for cell in notebook.cells if "short.yaml" in cell.source)
    assert run.source.count("[0, 1]") == 2
    run.source = run.source.replace("[0, 1]", "[0]")  # it takes half as long
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert Path(tmp_path, "results/mine/report.html").is_file()
    kinds = {kind for cell in notebook.cells for out in cell.get("outputs", ())
             for kind in out.get("data", ())}  # fmt: skip
    assert {"text/html", "image/svg+xml"} <= kinds
