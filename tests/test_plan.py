import json
import re

import numpy as np
import pytest
import yaml
from test_verdict import TOP1, comparisons, experiment, rows

from mfm.commands import plan as command
from mfm.errors import UserError
from mfm.experiment.layout import Layout
from mfm.reporting import plan
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import dumps_ordered
from mfm.statistics.power import seeds_needed


def document(*words):
    return to_markdown(plan.document(*words))


def test_more_seeds_and_their_cost_follow_from_spread_and_times():
    found = comparisons()[1]  # supervised, 2 seeds, against scratch, 4
    seconds = {"supervised": 3600.0, "scratch": 1800.0}
    deviation = float(np.std([0.3, -0.1], ddof=1))
    for need, points in zip(plan.needs(found, seconds), plan.POINTS, strict=True):
        assert need.points == points
        assert need.pairs == seeds_needed(points, deviation, level=0.975)
        runs = (max(0, need.pairs - 2), max(0, need.pairs - 4))
        assert need.runs == runs
        assert need.seconds == 3600 * runs[0] + 1800 * runs[1]


def test_seeds_that_are_enough_cost_nothing():
    found = comparisons()[0]
    assert plan.needs(found, {"mfm": 1.0, "scratch": 1.0})[-1].runs == (0, 0)
    assert "1: none more" in plan.sentence(found, {"mfm": 1.0, "scratch": 1.0})


def test_times_are_of_finetuning_and_evaluation(tmp_path):
    for seed, seconds in ((0, 10), (1, 20)):
        path = tmp_path / f"benchmarks/evaluate/supervised/seed{seed}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:10\n")
    found = plan.run_seconds(rows(folder=tmp_path))
    assert found == {"scratch": 100, "mfm": 100, "supervised": 115}


def test_a_plan_before_any_run_states_what_it_assumes():
    text = document(experiment(), rows()[:0])
    assert "Nothing is measured yet for mfm, supervised against scratch" in text
    assert "Cost: unknown" in text
    for deviation, source in plan.ASSUMED:
        counts = [f"{seeds_needed(p, deviation, level=0.975):,}" for p in plan.POINTS]
        assert f"| {deviation:g} | {source} | {' | '.join(counts)} |" in text
    # the arm with the fewest seeds decides
    assert "found with the 2 seeds configured" in text


def test_a_plan_from_runs_shows_spread_needs_and_cost():
    text = document(experiment(), rows(seconds=3600.0))
    assert "## From the runs here" in text
    assert "## Before there are runs" not in text
    deviation = float(np.std([1.0, 1.2, 0.9, 0.9], ddof=1))
    pairs = seeds_needed(0.1, deviation, level=0.975)
    [row] = [line for line in text.splitlines() if re.match(r"\| mfm .*\| 0\.1 \|", line)]
    assert f"| {pairs} |" in row
    assert f"{pairs - 4} of mfm + {pairs - 4} of scratch" in row
    assert f"| {2 * (pairs - 4)} h |" in row
    assert len([line for line in text.splitlines() if line.startswith("| supervised")]) == 4


def test_a_plan_from_some_runs_has_both_parts():
    text = document(experiment(), rows({arm: TOP1[arm] for arm in ("scratch", "mfm")}))
    assert "## From the runs here" in text
    assert "Nothing is measured yet for supervised against scratch" in text
    assert "scratch 0.028 h" in text
    alone = document(experiment(), rows({"mfm": TOP1["mfm"]}))
    assert "Nothing is measured yet for mfm, supervised against scratch" in alone


# The command


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Two configuration files in an empty folder; the second is laid over the first."""
    monkeypatch.chdir(tmp_path)
    values = json.loads(dumps_ordered(experiment()))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "more.yaml").write_text("finetune: {epochs: 7}\narms: {other: scratch}\n")
    return tmp_path


def test_the_command_plans_before_any_run(configured, capsys):
    command.main([])
    assert capsys.readouterr().out == document(experiment(), rows()[:0])
    assert {path.name for path in configured.iterdir()} == {"config.yaml", "more.yaml"}


def test_the_command_reads_the_rows_that_there_are(configured, capsys):
    finished = rows({arm: TOP1[arm] for arm in ("scratch", "mfm")})
    for row in finished.to_dict("records"):
        path = configured / Layout("results").evaluation(row["arm"], row["seed"]).row
        path.parent.mkdir(parents=True, exist_ok=True)
        finished[finished["checkpoint"] == row["checkpoint"]].to_csv(path, index=False)
    command.main(["--configfile", "config.yaml"])
    assert capsys.readouterr().out == document(
        experiment(), finished.sort_values("arm", kind="stable", ignore_index=True)
    )


def test_later_configuration_files_are_laid_over_earlier_ones(configured, capsys):
    command.main(["--configfile", "config.yaml", "more.yaml"])
    assert "for mfm, supervised, other against scratch" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"gone\.yaml is not a readable configuration"):
        command.main(["--configfile", "config.yaml", "gone.yaml"])
