"""The workflow as the catalog's test finds it."""

import re

import calls
from conftest import ROOT


def test_the_catalogs_test_folder_and_the_plain_call_ask_for_the_same_jobs(tmp_path):
    def jobs(*words: str) -> list[str]:
        words = ("--dry-run", "--cores", "all", "--directory", str(tmp_path), *words)
        done = calls.snakemake(*words, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return sorted(re.findall(r"^(\w+) +\d+$", done.stdout.split("Job stats:")[1], re.M))

    (tmp_path / "config.yaml").write_text((ROOT / ".test/config.yaml").read_text())
    plain = jobs("--configfile", "configs/tiny.yaml")
    assert {"pretrain", "finetune", "table"} <= set(plain)
    catalog = jobs("--snakefile", "workflow/Snakefile")
    assert [job for job in plain if job != "default"] == [job for job in catalog if job != "all"]
