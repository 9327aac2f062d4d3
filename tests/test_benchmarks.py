"""The speed measurements run and print their tables; what they measure is not tested."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.processes


def rows(program, *arguments):
    """Rows of the printed table, by their first distinguishing cells."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / program), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_objective_is_that_of_the_plain_version():
    words = "--size 32 --batch 3 --rounds 1 --repeats 1 --threads 1"
    header, *found = rows("objective.py", *words.split())
    assert [row[0] for row in found] == ["plain", "ours, plain allocator", "ours"]
    for row in found:
        for error in row[header.index("error: corrupt") :]:
            assert float(error) < 1e-5


def test_training_step():
    words = "--cases resnet10t:32:2 --tasks mfm --rounds 1 --steps 1 --threads 1"
    _, *found = rows("train_step.py", *words.split())
    assert [row[1] for row in found] == ["reference", "ours, plain allocator", "ours"]


def test_tasks():
    words = "--cases resnet10t:32:2 --tasks supervised mfm --rounds 1 --steps 1 --threads 1"
    speeds, _, ratios, found = rows("tasks.py", *words.split())
    assert speeds == ["images/s", "supervised", "mfm"]
    assert (ratios[0], found[:2]) == ("time / supervised", ["resnet10t:32:2", "1.00"])
