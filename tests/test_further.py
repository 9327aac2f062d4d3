from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mfm.experiment.layout import Layout
from mfm.experiment.resolve import finetunings
from mfm.experiment.settings import Experiment
from mfm.reporting import further
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import parse


def experiment(folder):
    values = {
        "results": str(folder),
        "seeds": [0, 1, 2],
        "dataset": {"name": "own", "source": "generated"},
        "pretrain": {"p": {"task": "mfm"}},
        "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}},
        "evaluate": {"bands": {"radii": [2, 4.5]}},
    }
    return parse(Experiment, values, where="test")


def finish(ours):
    draws = np.random.default_rng(0)
    for arm, seed in finetunings(ours):
        row = {"arm": arm, "seed": seed, "low_2": 50 + draws.normal(), "low_4.5": 60.0}
        row |= {"high_2": 40 + 5 * seed + draws.normal(), "high_4.5": 30.0}
        path = Path(Layout(ours.results).evaluation(arm, seed, name="bands").row)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row]).to_csv(path, index=False)


def test_each_measure_has_means_and_differences_but_no_verdict(tmp_path):
    ours = experiment(tmp_path)
    finish(ours)
    rows = further.collect(ours, "bands")
    assert list(rows.columns) == ["arm", "seed", "low_2", "low_4.5", "high_2", "high_4.5"]
    assert len(rows) == 6
    page = further.document(ours, "bands", rows)
    assert page.title == "resnet18 on own: which frequencies does a model need?"
    table = page.blocks[1]
    heads = [column.head for column in table.columns]
    assert heads[2::4] == [
        f"{band}-pass, radius {radius} (%)" for band in ("low", "high") for radius in ("2", "4.5")
    ]
    scratch, mfm = table.cells()
    at = heads.index("high-pass, radius 2 (%)")
    wide = rows.pivot(index="seed", columns="arm", values="high_2")
    interval = stats.ttest_1samp(wide["mfm"], 0).confidence_interval()
    gap = stats.ttest_rel(wide["mfm"], wide["scratch"]).confidence_interval()
    assert mfm[at : at + 4] == [
        f"{wide['mfm'].mean():.2f}",
        f"{interval.low:.2f} to {interval.high:.2f}",
        f"{(wide['mfm'] - wide['scratch']).mean():+.2f}",
        f"{gap.low:+.2f} to {gap.high:+.2f}",
    ]
    assert scratch[at + 2 : at + 4] == ["-", "-"]
    text = to_markdown(page)
    assert "no verdicts" in text
    assert "better" not in text
    assert "low-pass, radius 4.5: top-1 on images that keep the frequencies inside" in text


def test_an_arm_without_rows_is_left_out(tmp_path):
    ours = experiment(tmp_path)
    finish(ours)
    rows = further.collect(ours, "bands")
    table = further.document(ours, "bands", rows[rows["arm"] == "mfm"]).blocks[1]
    assert [row[0] for row in table.cells()] == ["mfm"]
    assert table.cells()[0][4] == "-"
