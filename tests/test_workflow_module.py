"""The workflow as others use it: as a module from an empty folder, and from the catalog's test."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

pytestmark = pytest.mark.processes
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
SNAKEFILE = f"""
configfile: "{ROOT / "configs/tiny.yaml"}"


config["seeds"] = [0]  # one is enough to see the end
config["question"] = {{"arm": "mfm", "baseline": "scratch"}}


module mfm:
    snakefile:
        "{ROOT / "workflow/Snakefile"}"
    config:
        config


use rule * from mfm as mfm_*


rule all:
    input:
        rules.mfm_all.input,
    default_target: True
"""


def snakemake(folder: Path, *words: str) -> str:
    command = [SNAKEMAKE, "--cores", "all", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_module_runs_to_the_end_from_an_empty_folder(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    snakemake(tmp_path)
    results = tmp_path / "results/tiny"
    rows = pd.read_csv(results / "results.csv")
    assert rows["arm"].value_counts().to_dict() == {"scratch": 1, "supervised": 1, "mfm": 1}
    assert pd.read_csv(results / "question.csv")["finished"].tolist() == [0]
    for name in ("table.md", "report.html", "dataset.md", "plan.md"):
        assert (results / name).is_file()
    assert "Nothing to be done" in snakemake(tmp_path)


def test_the_catalogs_test_folder_and_the_plain_call_ask_for_the_same_jobs(tmp_path):
    def jobs(*words: str) -> list[str]:
        text = snakemake(ROOT, "--dry-run", "--directory", str(tmp_path), *words)
        return sorted(re.findall(r"^(\w+) +\d+$", text.split("Job stats:")[1], re.M))

    (tmp_path / "config.yaml").write_text((ROOT / ".test/config.yaml").read_text())
    plain = jobs("--configfile", "configs/tiny.yaml")
    assert {"pretrain", "finetune", "table"} <= set(plain)
    catalog = jobs("--snakefile", "workflow/Snakefile")
    assert [job for job in plain if job != "default"] == [job for job in catalog if job != "all"]
