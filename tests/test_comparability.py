import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import nn

from mfm.data.settings import Seen
from mfm.experiment.jobs import FinetuneJob
from mfm.models import weights
from mfm.models.settings import Model
from mfm.objectives.supervised.settings import Finetuning
from mfm.reporting import comparability
from mfm.reporting.document import Bullets, Table
from mfm.reporting.render_markdown import inline
from mfm.settings.section import config_hash, dumps

VERSIONS = {
    "code_version": "1+a",
    "loader": "torchvision",
    "torch": "2.14",
    "torchvision": "0.29",
    "timm": "1.0",
    "pillow": "13.0",
    "dali": "-",
    "precision": "bf16",
    "hardware": "some CPU",
}
PRETRAINED = {f"initial_{key}": value for key, value in VERSIONS.items()}


def run(folder, arm, seed=0, *, training=None, subset="a\nb\n", evaluation=None, **metadata):
    """A finished run's files, and its row."""
    path = folder / f"finetune/{arm}/seed{seed}/model.safetensors"
    resolved = FinetuneJob(
        arm=arm,
        source={"pretrain": arm} if "initial_torch" in metadata else "scratch",
        seed=seed,
        dataset=Seen(name="fashion-mnist", image_size=32),
        model=Model(),
        training=Finetuning(**training or {}),
        curve="val",
    )
    weights.save_weights(nn.Linear(1, 1), path, VERSIONS | metadata)
    (path.parent / "config.json").write_text(dumps(resolved) + "\n")
    (path.parent / "subset.txt").write_text(subset)
    predictions = folder / f"evaluate/{arm}/seed{seed}.parquet"
    predictions.parent.mkdir(parents=True, exist_ok=True)
    described = VERSIONS | {"config_hash": "0"} | (evaluation or {})
    table = pa.table({"correct": [True]})
    pq.write_table(table.replace_schema_metadata({"mfm": json.dumps(described)}), predictions)
    return {
        "arm": arm,
        "seed": seed,
        "code_version": (VERSIONS | metadata)["code_version"],
        "config_hash": config_hash(resolved),
        "checkpoint": str(path),
    }


def warnings(*rows, **more):
    """What is said of each setting that differs: 'key: value: runs; value: runs'."""
    blocks = comparability.warnings(pd.DataFrame(rows), **more)
    said = {}
    for block in blocks:
        if isinstance(block, Table):
            for key, value, runs in block.cells():
                said.setdefault(inline(key), []).append(f"{value}: {runs}")
    hints = [inline(item) for block in blocks if isinstance(block, Bullets) for item in block.items]
    if blocks and not said:
        return [inline(block.text) for block in blocks]
    return [f"{key}: {'; '.join(values)} {' '.join(hints)}" for key, values in said.items()]


def test_arms_that_differ_in_their_initialisation_alone_are_no_warning(tmp_path):
    rows = [
        run(tmp_path, arm, seed, **more)
        for arm, more in (("scratch", {}), ("mfm", PRETRAINED))
        for seed in (0, 1)
    ]
    assert warnings(*rows) == []


@pytest.mark.parametrize(
    ("changed", "key", "ours", "theirs"),
    [
        ({"loss": "bce"}, "training.loss", '"bce"', '"ce"'),
        ({"epochs": 7}, "training.epochs", "7", "1"),
        ({"crop": {"size": 64}}, "training.crop.size", "64", "null"),
        ({"images_per_class": 9}, "training.images_per_class", "9", "null"),
        ({"optimizer": {"lr": 0.5}}, "training.optimizer.lr", "0.5", "0.001"),
    ],
)
def test_another_setting_is_told_with_its_key_and_who_has_which(
    tmp_path, changed, key, ours, theirs
):
    [warning] = warnings(
        run(tmp_path, "scratch"), run(tmp_path, "mfm", training=changed, **PRETRAINED)
    )
    assert f"`{key}`" in warning
    assert f"{ours}: mfm" in warning
    assert f"{theirs}: scratch" in warning


@pytest.mark.parametrize("key", ["code_version", "torch", "torchvision", "timm", "pillow"])
@pytest.mark.parametrize("stage", ["finetuning", "pretraining", "evaluation"])
def test_another_version_in_any_stage_is_told(tmp_path, key, stage):
    changed = {
        "finetuning": {**PRETRAINED, key: "other"},
        "pretraining": {**PRETRAINED, f"initial_{key}": "other"},
        "evaluation": {**PRETRAINED, "evaluation": {key: "other"}},
    }[stage]
    [warning] = warnings(run(tmp_path, "scratch"), run(tmp_path, "mfm", **changed))
    assert f"`{key}`" in warning
    assert f"other: {stage} of mfm" in warning
    assert "finetuning of scratch" in warning


def test_another_loader_is_told_and_its_missing_version_elsewhere_is_not(tmp_path):
    dali = {"initial_loader": "dali", "initial_dali": "2.4"}
    [warning] = warnings(run(tmp_path, "scratch"), run(tmp_path, "mfm", **PRETRAINED | dali))
    assert "dali: pretraining of mfm" in warning
    assert "`mfm loader-drift`" in warning


def test_two_versions_of_dali_are_told(tmp_path):
    found = {"loader": "dali", "dali": "2.4"}
    described = {**found, "initial_loader": "dali", "initial_dali": "2.3", "evaluation": found}
    [warning] = warnings(
        run(tmp_path, "scratch", **found, evaluation=found),
        run(tmp_path, "mfm", **PRETRAINED | described),
    )
    assert "`dali`" in warning
    assert "2.3: pretraining of mfm" in warning


def test_a_number_format_is_compared_within_a_stage(tmp_path):
    fp16 = {"initial_precision": "fp16"}
    assert warnings(run(tmp_path, "scratch"), run(tmp_path, "mfm", **PRETRAINED | fp16)) == []
    [warning] = warnings(run(tmp_path, "scratch"), run(tmp_path, "other", precision="fp32"))
    assert "`precision of finetuning`" in warning


def test_other_labelled_images_of_one_seed_are_told(tmp_path):
    rows = [run(tmp_path, arm, seed, subset=f"{seed}") for arm in "ab" for seed in (0, 1)]
    assert warnings(*rows) == []
    [warning] = warnings(*rows, run(tmp_path, "c", 1, subset="other"))
    assert "`labelled images of seed 1`" in warning


def test_another_evaluation_is_told(tmp_path):
    other = {"config_hash": "1"}
    [warning] = warnings(run(tmp_path, "a"), run(tmp_path, "b", evaluation=other))
    assert "evaluation's configuration" in warning


def test_seeds_of_one_arm_that_differ_are_named(tmp_path):
    rows = [run(tmp_path, "a", 0), run(tmp_path, "a", 1, pillow="12"), run(tmp_path, "b", 0)]
    [warning] = warnings(*rows)
    assert "12: finetuning of a (seed 1)" in warning
    assert "finetuning of a (seed 0), b" in warning


def test_a_configuration_that_was_not_run_is_not_compared(tmp_path):
    rows = [run(tmp_path, arm) for arm in ("a", "b")]
    path = tmp_path / "finetune/b/seed0/config.json"
    path.write_text(path.read_text().replace('"epochs": 1', '"epochs": 2'))
    [warning] = warnings(*rows)
    assert "`training.epochs`" not in warning
    assert "not compared: missing, or not what was run: b (seed 0)" in warning


def test_a_run_that_makes_up_for_a_pretraining_is_compared_at_its_own_length(tmp_path):
    rows = [run(tmp_path, arm) for arm in ("a", "long")]
    path = tmp_path / "finetune/long/seed0/config.json"
    values = json.loads(path.read_text())
    values["makes_up_for"] = {"name": "p", "split": "train", "batch": 1, "epochs": 1, "size": 8}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    job = FinetuneJob.model_validate(values)
    longer = job.training.model_copy(update={"epochs": 9})
    rows[1]["config_hash"] = config_hash(job.model_copy(update={"training": longer}))
    for row, epochs in zip(rows, (1, 9), strict=True):
        row["epochs"] = epochs
    [warning] = warnings(*rows)
    assert warning.strip() == "`training.epochs`: 1: a; 9: long"
    assert warnings(*rows, intended={"training.epochs": ["long"]}) == []
    assert warnings(*rows, intended={"training": ["a", "long"]}) == []
    assert warnings(*rows, intended={"training.epoch": ["long"]}) == [warning]


def test_runs_without_files_are_told_as_not_compared(tmp_path):
    rows = [run(tmp_path, arm) for arm in ("a", "b")]
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    [line] = warnings(*rows)
    assert "not compared" in line


def test_a_run_that_was_continued_with_other_settings_is_told(tmp_path):
    changed = {"continued_changed": "config.training.epochs"}
    rows = [
        run(tmp_path, "scratch"),
        run(tmp_path, "scratch", 1, **changed),
        run(tmp_path, "mfm", **{f"initial_{key}": keys for key, keys in changed.items()}),
    ]
    (said,) = [inline(text) for text in comparability.continued(pd.DataFrame(rows))]
    assert "config.training.epochs" in said
    assert "scratch (seed 1), pretraining of mfm (seed 0)" in said
    assert not comparability.continued(pd.DataFrame(rows[:1]))
