"""Pages of further evaluations: any number of measures, arms side by side, figures."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mfm.experiment import resolve
from mfm.experiment.layout import Layout
from mfm.experiment.settings import Experiment
from mfm.files import marks, style
from mfm.reporting import further
from mfm.reporting.document import Paragraph, Picture, Table, plain
from mfm.reporting.figures import FIGURES
from mfm.reporting.figures.further import draw_further
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import parse

BANDS = {"radii": [2, 4.5], "images": 1000}
WAVES = {"waves": {"norm": 4, "frequencies": [0, 4]}}


def experiment(folder, **evaluate):
    values = {
        "results": str(folder),
        "seeds": [0, 1, 2],
        "dataset": {"name": "own", "source": "generated"},
        "pretrain": {"p": {"task": "mfm"}},
        "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}, "a-b": "scratch"},
        "evaluate": evaluate or {"bands": BANDS},
    }
    return parse(Experiment, values, where="test")


def finish(ours, name="bands"):
    """Rows of every finetuned model, as they are collected."""
    settings = resolve.further_evaluations(ours.evaluate)[name]
    draws = np.random.default_rng(0)
    for arm, seed in resolve.finetunings(ours):
        row = {"arm": arm, "seed": seed}
        for measure in settings.measures():
            row[measure.name] = 50 + 5 * seed + draws.normal() + 3 * (arm == "mfm")
        path = Path(Layout(ours.results).evaluation(arm, seed, name=name).row)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row]).to_csv(path, index=False)
    return further.collect(ours, name)


def tables(page):
    return [block for block in page.blocks if isinstance(block, Table)]


def test_each_measure_has_means_and_differences_but_no_verdict(tmp_path):
    ours = experiment(tmp_path)
    rows = finish(ours)
    assert len(rows) == 9
    page = further.document(ours, "bands", rows)
    assert page.title == "resnet18 on own: which frequencies does a model need?"
    means, gaps = tables(page)
    heads = [column.head for column in means.columns]
    assert heads == ["measure", "scratch (n = 3)", "mfm (n = 3)", "a-b (n = 3)"]
    assert [column.head for column in gaps.columns] == ["measure", "mfm", "a-b"]
    measures = ["as they are (%)", "low-pass, mean (%)", "high-pass, mean (%)"]
    assert [line[0] for line in means.cells()] == [line[0] for line in gaps.cells()] == measures
    wide = rows.pivot(index="seed", columns="arm", values="high")
    inside = stats.ttest_1samp(wide["mfm"], 0).confidence_interval()
    gap = stats.ttest_rel(wide["mfm"], wide["scratch"]).confidence_interval()
    low, high = max(0, inside.low), min(100, inside.high)
    assert plain(means.cells()[2][2]) == f"{wide['mfm'].mean():.2f} ({low:.2f} to {high:.2f})"
    mean = (wide["mfm"] - wide["scratch"]).mean()
    assert gaps.cells()[2][1] == f"{mean:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})"
    text = to_markdown(page)
    assert "no verdicts" in text
    assert "better" not in text
    assert "1,000 images, drawn by seed" in text
    assert "`bands.csv`" in text, "where every single number is"
    assert "![" in text
    assert "(figures/bands.svg)" in text


def test_an_arm_without_rows_is_left_out(tmp_path):
    ours = experiment(tmp_path)
    rows = finish(ours)
    (means,) = tables(further.document(ours, "bands", rows[rows["arm"] == "mfm"]))
    assert [column.name for column in means.columns] == ["measure", "mfm"]


def test_a_page_with_many_measures_stays_short(tmp_path):
    ours = experiment(tmp_path, corruptions={}, bands=BANDS | WAVES)
    assert resolve.further_pages(ours) == {"bands": "bands", "robustness": "corruptions"}
    pages = {"bands": "bands", "waves": "bands", "robustness": "robustness"}
    assert resolve.further_figures(ours) == pages
    assert not set(pages) & set(FIGURES), "figures have names of their own"
    rows = finish(ours, "corruptions")
    page = further.document(ours, "corruptions", rows)
    assert len(rows.columns) == 2 + 2 + 6 + 6 * 5
    assert all(len(table.rows) == 8 for table in tables(page))
    assert "`robustness.csv`" in to_markdown(page)
    (picture,) = (block for block in page.blocks if isinstance(block, Picture))
    assert picture.path == "figures/robustness.svg"
    assert sum(isinstance(block, Paragraph) for block in page.blocks) == 2


def test_curves_show_every_arm_with_its_interval(tmp_path):
    ours = experiment(tmp_path, corruptions={"kinds": ["noise", "jpeg"], "severities": [5, 1]})
    rows = finish(ours, "corruptions")
    figure = draw_further(ours, "robustness", rows)
    noise, jpeg = figure.axes
    assert (noise.get_title("left"), jpeg.get_title("left")) == ("noise", "JPEG")
    assert [text.get_text() for text in noise.get_xticklabels()] == ["0", "1", "5"]
    looks = style.looks(list(ours.arms))
    for container, arm in zip(jpeg.containers, ours.arms, strict=True):
        line, _, (bars,) = container.lines
        assert (line.get_color(), line.get_marker()) == looks[arm]
        of_arm = rows[rows["arm"] == arm]
        for at, name in enumerate(["clean", "jpeg_1", "jpeg_5"]):
            assert line.get_ydata()[at] == pytest.approx(of_arm[name].mean())
            inside = stats.ttest_1samp(of_arm[name], 0).confidence_interval()
            ends = bars.get_segments()[at][:, 1]
            assert ends == pytest.approx([max(0, inside.low), min(100, inside.high)])
    said = marks.svg(figure).decode()
    assert "mfm, JPEG, severity 5, top-1 in %: " in said
    assert re.search('data-arm="a-b"', said)


def test_maps_show_every_arm_and_its_difference(tmp_path):
    ours = experiment(tmp_path, bands=BANDS | WAVES)
    rows = finish(ours)
    figure = draw_further(ours, "waves", rows)
    means = rows.groupby("arm").mean()
    shown = {axis.get_title("left"): axis for axis in figure.axes if axis.get_title("left")}
    assert sorted(shown) == ["a-b", "less scratch", "mfm", "scratch"]
    names = [["4_4", "4_0", "-4_4"], ["0_4", "0_0", "0_4"], ["-4_4", "4_0", "4_4"]]
    mesh = shown["mfm"].collections[0].get_array()
    expected = [[means.loc["mfm", f"wave_{name}"] for name in line] for line in names]
    np.testing.assert_allclose(mesh, expected)
    ticks = [text.get_text() for text in shown["mfm"].get_yticklabels()]
    assert ticks == ["-4", "0", "4"]
    gap = means.loc["a-b"] - means.loc["scratch"]
    mesh = shown["less scratch"].collections[0].get_array()  # the last arm's
    np.testing.assert_allclose(mesh[1, 1], gap["wave_0_0"])
    assert "frequency down (bins) 4, frequency across (bins) 0: " in marks.svg(figure).decode()
