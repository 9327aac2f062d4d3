"""The workflow as the catalog's test finds it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.processes
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


def snakemake(folder: Path, *words: str) -> str:
    command = [SNAKEMAKE, "--cores", "all", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_catalogs_test_folder_and_the_plain_call_ask_for_the_same_jobs(tmp_path):
    def jobs(*words: str) -> list[str]:
        text = snakemake(ROOT, "--dry-run", "--directory", str(tmp_path), *words)
        return sorted(re.findall(r"^(\w+) +\d+$", text.split("Job stats:")[1], re.M))

    (tmp_path / "config.yaml").write_text((ROOT / ".test/config.yaml").read_text())
    plain = jobs("--configfile", "configs/tiny.yaml")
    assert {"pretrain", "finetune", "table"} <= set(plain)
    catalog = jobs("--snakefile", "workflow/Snakefile")
    assert [job for job in plain if job != "default"] == [job for job in catalog if job != "all"]
