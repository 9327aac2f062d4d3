"""Records: whatever happens to a file on the way to a number, it is named."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from mfm.__main__ import main
from mfm.errors import UserError
from mfm.evaluation.results import collect_rows
from mfm.experiment.places import check_place
from mfm.files import records
from mfm.models.metadata import to_header

ROWS = [f"results/evaluate/mfm/seed{seed}.csv" for seed in (0, 1)]
PRETRAINING, FINETUNING = "results/pretrain/mfm/seed0", "results/finetune/mfm/seed{}"


def leave(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def evaluate(seed, correct):
    """An evaluation's files; `correct` of each image."""
    row = ROWS[seed]
    leave(row, "")
    top1 = round(100 * sum(correct) / len(correct), 4)
    pd.DataFrame({"arm": ["mfm"], "seed": [seed], "top1": [top1]}).to_csv(row, index=False)
    predictions = str(Path(row).with_suffix(".parquet"))
    pq.write_table(pa.table({"correct": correct}), predictions)
    return [row, predictions]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """The files of a small experiment, in a folder of its own, each stage with its record."""
    monkeypatch.chdir(tmp_path)
    images = leave("data/own/images.train.json", '{"sha256": "1"}')
    data = [leave("data/own/manifest.parquet", "rows"), leave("data/own/summary.json", "{}")]
    records.write(read=[], left=[*data, images])
    read = [leave(f"{PRETRAINING}/config.json", "{}"), images]
    backbone = leave(f"{PRETRAINING}/backbone.safetensors", "the backbone")
    left = [
        backbone,
        leave(f"{PRETRAINING}/metrics.csv", "a"),
        leave(f"{PRETRAINING}/checkpoint.pt", "b"),
    ]
    records.write(read=read, left=left)
    for seed in (0, 1):
        run = FINETUNING.format(seed)
        read = [leave(f"{run}/config.json", f'{{"seed": {seed}}}'), images, backbone]
        model = leave(f"{run}/model.safetensors", f"model {seed}")
        metrics = leave(f"{run}/metrics.csv", f"epochs {seed}")
        records.write(read=read, left=[model, metrics])
        config = leave("results/evaluate/config.json", "{}")
        left = evaluate(seed, [True, seed == 0, True, False])
        records.write(read=[config, images, model, metrics], left=left)
    with records.stage(
        SimpleNamespace(input=ROWS, output=["results/results.csv"]), results="results"
    ):
        leave("results/results.csv", collect_rows(ROWS).to_csv(index=False))
    return tmp_path


def summarise():
    """What the table does."""
    predictions = [str(Path(row).with_suffix(".parquet")) for row in ROWS]
    read = ["results/results.csv", "data/own/summary.json", *predictions]
    with records.stage(SimpleNamespace(input=read, output=["results/table.md"]), results="results"):
        leave("results/table.md", "the table")


def run_verify(monkeypatch, folder="results"):
    monkeypatch.setattr(sys, "argv", ["mfm", "verify", str(folder)])
    main()


DAMAGED = [
    "data/own/manifest.parquet",
    "data/own/summary.json",
    f"{PRETRAINING}/backbone.safetensors",
    f"{PRETRAINING}/config.json",
    f"{FINETUNING.format(0)}/model.safetensors",
    f"{FINETUNING.format(0)}/metrics.csv",
    f"{FINETUNING.format(0)}/config.json",
    "results/evaluate/config.json",
    "results/evaluate/mfm/seed0.parquet",
    ROWS[0],
    "results/results.csv",
]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def swap(path):
    other = Path(str(path).replace("seed0", "seed1"))
    if other == path or not other.exists():
        pytest.skip("there is one of it")
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def test_an_untouched_experiment_fits_together(experiment, monkeypatch, capsys):
    summarise()
    run_verify(monkeypatch)
    assert "fit together" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [truncate, flip, swap, Path.unlink])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_before_any_number(experiment, monkeypatch, capsys, name, damage):
    damage(Path(name))
    with pytest.raises(UserError, match=re.escape(name)) as refused:
        summarise()
    assert "\n" not in str(refused.value)
    assert not Path("results/table.md").exists()
    with pytest.raises(SystemExit) as ended:
        run_verify(monkeypatch)
    assert ended.value.code == 2
    assert name in capsys.readouterr().err


def test_a_touched_file_is_the_same(experiment):
    for name in DAMAGED:
        os.utime(name, (1, 1))
    summarise()


@pytest.mark.parametrize(
    "name", [f"{FINETUNING.format(1)}/model.safetensors", ROWS[1], "results/results.csv"]
)
@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_a_record_is_missed_and_a_damaged_one_told(experiment, monkeypatch, name, damage):
    damage(records.record_of(Path(name)))
    with pytest.raises(UserError, match=str(Path(name).parent)):
        summarise()
    with pytest.raises(SystemExit):
        run_verify(monkeypatch)


def test_the_first_file_that_is_named_is_the_one_that_others_were_made_from(experiment):
    flip(Path(f"{FINETUNING.format(0)}/model.safetensors"))
    flip(Path(f"{PRETRAINING}/backbone.safetensors"))
    flip(Path("results/results.csv"))
    with pytest.raises(UserError, match=r"backbone\.safetensors is not what its stage left"):
        summarise()


def test_what_was_made_of_an_earlier_version_of_a_file_is_named(experiment):
    """Such as a pretraining done again by itself, whose finetunings were not."""
    backbone = leave(f"{PRETRAINING}/backbone.safetensors", "another backbone")
    records.write(
        read=[], left=[backbone, f"{PRETRAINING}/metrics.csv", f"{PRETRAINING}/checkpoint.pt"]
    )
    with pytest.raises(UserError, match=r"is not what was read when .*model\.safetensors was made"):
        summarise()


def test_a_folder_that_was_sent_is_checked_without_the_images(experiment, monkeypatch, capsys):
    summarise()
    shutil.copytree("results", "inbox/theirs")
    shutil.rmtree("data")
    run_verify(monkeypatch, "inbox/theirs")
    assert "not checked: inbox/data/own/images.train.json" in capsys.readouterr().out
    flip(Path("inbox/theirs/evaluate/mfm/seed1.csv"))
    with pytest.raises(SystemExit):
        run_verify(monkeypatch, "inbox/theirs")
    assert "inbox/theirs/evaluate/mfm/seed1.csv" in capsys.readouterr().err


def test_a_folder_without_records_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_verify(monkeypatch, tmp_path)
    assert "no records" in capsys.readouterr().err


def test_a_row_that_its_predictions_contradict_is_refused(experiment, monkeypatch, capsys):
    """Even where somebody has made the sums fit."""
    left = [ROWS[0], str(Path(ROWS[0]).with_suffix(".parquet"))]
    Path(ROWS[0]).write_text(Path(ROWS[0]).read_text().replace("75.0", "99.0"))
    record = json.loads(records.record_of(Path(ROWS[0])).read_text())
    read = [os.path.normpath(Path(ROWS[0]).parent / name) for name in record["read"]]
    records.write(read=read, left=left)
    with pytest.raises(UserError, match=r"seed0\.csv says top-1 99\.0, and .*parquet 75\.0"):
        collect_rows(ROWS)
    with pytest.raises(SystemExit):
        run_verify(monkeypatch)
    assert "says top-1 99.0" in capsys.readouterr().err


def test_a_row_in_another_ones_place_is_refused(experiment):
    shutil.copy(ROWS[1], ROWS[0])
    with pytest.raises(UserError, match="is the row of mfm, seed 1"):
        collect_rows(ROWS)


def test_a_record_says_the_same_each_time(experiment):
    record = records.record_of(Path(ROWS[0]))
    before = record.read_bytes()
    summarise()
    assert record.read_bytes() == before
    assert b"2026" not in before


def test_what_was_changed_is_told_before_a_workflow_removes_what_depends_on_it(experiment):
    model = Path(f"{FINETUNING.format(0)}/model.safetensors")
    record, config = records.record_of(model), Path(f"{FINETUNING.format(0)}/config.json")
    asked = config.read_text()
    records.check_unchanged(record, config=asked)
    os.utime(model)
    records.check_unchanged(record, config=asked)  # touched: the same
    flip(model)
    with pytest.raises(UserError, match=r"model\.safetensors is not what its stage left"):
        records.check_unchanged(record, config=asked)


def test_an_edited_settings_file_is_told_and_a_changed_configuration_is_none(experiment):
    record = records.record_of(Path(f"{FINETUNING.format(0)}/model.safetensors"))
    config = Path(f"{FINETUNING.format(0)}/config.json")
    asked = config.read_text()
    config.write_text('{"lr": 1}')  # the workflow's, of another configuration: that runs it again
    records.check_unchanged(record, config='{"lr": 1}')
    records.check_unchanged(record, config='{"lr": 2}')
    with pytest.raises(UserError, match=r"config\.json is not what the workflow wrote"):
        records.check_unchanged(record, config=asked)
    config.unlink()
    records.check_unchanged(record, config=asked)
    record.unlink()
    records.check_unchanged(record, config=asked)


def test_files_of_a_folder_of_a_stage_have_its_record(experiment):
    picture = leave("results/pictures/input.png", "a picture")
    records.write(read=[], left=["results/pictures"])
    records.check(["results/pictures"], results="results")
    flip(Path(picture))
    with pytest.raises(UserError, match=r"input\.png is not what its stage left"):
        records.check([picture], results="results")


def test_a_small_file_is_compared_whatever_its_time(experiment):
    row, record = Path(ROWS[0]), records.record_of(Path(ROWS[0]))
    times = row.stat()
    flip(row)
    os.utime(row, ns=(times.st_atime_ns, times.st_mtime_ns - 10**9))
    records.check_unchanged(record)
    with pytest.raises(UserError, match=r"seed0\.csv is not what its stage left"):
        records.check_unchanged(record, small=True)
    row.unlink()  # which is made again
    records.check_unchanged(record, small=True)


def saved(path, **said):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.zeros(1)}, path, metadata=to_header(said))
    records.write(read=[], left=[path])
    return Path(path)


def test_a_folder_that_was_exchanged_whole_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pretrained = {"pretraining": "mfm", "seed": "0"}
    mine = saved(f"{PRETRAINING}/backbone.safetensors", **pretrained)
    finetuned = {"arm": "mfm", "seed": "1", "pretraining": "mfm"}
    check_place(saved(f"{FINETUNING.format(1)}/model.safetensors", **finetuned))
    check_place(mine)
    check_place(saved("elsewhere/backbone.safetensors", **pretrained))
    for folder in ("results/pretrain/supervised/seed0", "results/pretrain/mfm/seed1"):
        shutil.copytree(PRETRAINING, folder)
        with pytest.raises(UserError, match=r"is of pretraining mfm, seed 0, and its folder is"):
            check_place(Path(folder, mine.name))
        with pytest.raises(SystemExit):
            run_verify(monkeypatch)
        assert f"{folder}/backbone.safetensors is of pretraining mfm" in capsys.readouterr().err
        shutil.rmtree(folder)
    run_verify(monkeypatch)
