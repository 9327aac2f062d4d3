"""configs/imagenet-resnet50.yaml from end to end, laid over with configs/imagenet-tiny.yaml."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import torchvision
from conftest import ROOT
from tiny_imagenet import WNIDS, write_tree

from mfm.models.metadata import read_metadata
from mfm.models.weights import read_weights, weights_checksum

pytestmark = pytest.mark.processes


def test_resnet50_runs_by_upstreams_recipe(tmp_path):
    write_tree(tmp_path / "tiny-imagenet")
    # What torchvision's download is, for want of a network: its names and shapes.
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "stand-in.pth")
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "all"]
    # One thread, so that the arm from scratch is finetuned beside the pretraining.
    command += ["results/imagenet-tiny/table.md", "--set-threads", "pretrain=1"]
    command += ["--directory", str(tmp_path), "--configfile"]
    files = ("imagenet-resnet50", "imagenet-tiny")
    command += [str(ROOT / f"configs/{name}.yaml") for name in files]
    arm = "{weights: stand-in.pth, classifier: keep}"
    command += ["--config", f"arms={{supervised: {arm}}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    results = tmp_path / "results/imagenet-tiny"
    rows = pd.read_csv(results / "results.csv")
    assert list(rows["arm"]) == ["scratch", "supervised", "mfm"]
    assert set(rows["images"]) == {2 * len(WNIDS)}
    [asked] = pd.read_csv(results / "question.csv").to_dict("records")
    assert (asked["arm"], asked["baseline"], asked["finished"]) == ("mfm", "scratch", 0)
    log = (results / "logs/pretrain/mfm/seed0.log").read_text()
    assert "recipe 'upstream', radius 16, low-pass share 0.5" in log
    # 1.2e-3 and 1.2e-2 at batch 2048, here at batch 4
    assert "batch 4 = 1 ranks x 1 micro-batches x 4" in log
    assert "to 2.344e-06, then to 0" in log
    finetuned = (results / "logs/finetune/supervised/seed0.log").read_text()
    assert "to 2.344e-05, then to 0" in finetuned
    checksum = weights_checksum(str(tmp_path / "stand-in.pth"))
    assert checksum in finetuned
    table = (results / "table.md").read_text()
    [line] = re.findall(r"^- 'supervised' starts from .*$", table, re.M)
    # It has 1000 classes, and the images have 5.
    assert checksum in line
    assert "though the configuration asks to keep it" in line
    saved = read_metadata(results / "finetune/mfm/seed0/model.safetensors")
    assert saved["peak_learning_rate"] == "2.34375e-05"
    weights = read_weights(str(results / "finetune/mfm/seed0/model.safetensors"))
    torchvision.models.resnet50(num_classes=5).load_state_dict(weights, strict=True)
