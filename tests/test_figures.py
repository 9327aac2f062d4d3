import xml.etree.ElementTree

import finished
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from mfm.experiment.settings import Experiment
from mfm.files import marks, style
from mfm.files.style import looks
from mfm.reporting.figures import FIGURES
from mfm.reporting.figures.accuracy import draw_accuracy, draw_difference
from mfm.reporting.figures.classes import confusion, draw_classes, draw_confusion, recall
from mfm.reporting.figures.curves import draw_finetuning, draw_pretraining
from mfm.reporting.figures.draw import draw_all
from mfm.reporting.figures.frontier import draw_frontier, frontier, prices
from mfm.settings.section import parse


@pytest.fixture(scope="module")
def done(finished_results):
    results = pd.read_csv(finished_results / "results.csv")
    return finished.experiment(finished_results), results, finished_results


def runs(done):
    ours, _, folder = done
    return {
        name: {s: pd.read_parquet(folder / f"evaluate/{name}/seed{s}.parquet") for s in ours.seeds}
        for name in ours.arms
    }


def lines(axis):
    """The x values of what is drawn in each horizontal or vertical line of an axis."""
    return [tuple(line.get_xdata()) for line in axis.lines]


def test_every_figure_is_there_and_repeats(done, tmp_path):
    ours, results, folder = done
    draw_all(ours, results, tmp_path)
    for name in FIGURES:
        root = xml.etree.ElementTree.parse(folder / f"figures/{name}.svg").getroot()
        assert root.tag.endswith("svg")
        with Image.open(folder / f"figures/{name}.png") as image:
            assert min(image.size) > 90
        for kind in ("svg", "png"):
            again = (tmp_path / f"{name}.{kind}").read_bytes()
            assert again == (folder / f"figures/{name}.{kind}").read_bytes()


def test_accuracy_shows_each_seed_mean_and_interval(done):
    ours, results, _ = done
    (axis,) = draw_accuracy(ours, results).axes
    for number, name in enumerate(ours.arms):
        top1 = results[results["arm"] == name]["top1"]
        assert axis.collections[number].get_offsets()[:, 0].tolist() == top1.tolist()
        half = stats.t.ppf(0.975, 2) * top1.std() / np.sqrt(3)
        assert lines(axis)[2 * number] == pytest.approx((top1.mean() - half, top1.mean() + half))
        assert lines(axis)[2 * number + 1] == pytest.approx((top1.mean(),))


def test_difference_is_paired_over_seeds(done):
    ours, results, _ = done
    (axis,) = draw_difference(ours, results).axes
    wide = results.pivot_table(index="seed", columns="arm", values="top1")
    pairs = wide["mfm"] - wide["scratch"]
    interval = stats.ttest_rel(wide["mfm"], wide["scratch"]).confidence_interval()
    assert axis.collections[0].get_offsets()[:, 0].tolist() == pytest.approx(pairs.tolist())
    assert lines(axis)[1] == pytest.approx(tuple(interval))
    [label] = [each.get_text() for each in axis.get_yticklabels()]
    assert label.startswith(f"mfm less scratch\n{pairs.mean():+.2f} (")


def test_each_comparison_is_drawn_and_intervals_end_where_percentages_do():
    zero = (0.0,) * 3
    ours, rows = finished.plant(
        {"scratch": (18, 0, 17), "mfm": (1, 2, 3), "scratch-long": zero}, pretrainings=2
    )
    (axis,) = draw_difference(ours, rows).axes
    names = [each.get_text().split("\n")[0] for each in axis.get_yticklabels()]
    assert names == ["mfm less scratch", "scratch-long less scratch", "mfm less scratch-long"]
    (axis,) = draw_accuracy(ours, rows).axes
    assert max(max(line) for line in lines(axis)) == 100


def test_accuracy_on_the_way_is_drawn_where_it_was_measured(done):
    ours, _, _ = done
    metrics = {"a": [pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})] * 2}
    measured = [pd.DataFrame({"epoch": [0, 2], "top1": [10.0, top1]}) for top1 in (40.0, 60.0)]
    assert ours.finetune.curve_images == 0
    asked = ours.finetune.model_copy(update={"curve_images": 500})
    curves = ours.model_copy(update={"finetune": asked})
    _, axis = draw_finetuning(curves, metrics, {"a": measured}, images=117).axes
    assert axis.lines[0].get_ydata().tolist() == [10.0, 50.0]
    assert axis.get_ylabel() == "top-1 of 117 images (%)"  # all that there are, not 500
    nothing = {"a": [pd.DataFrame(columns=["epoch", "top1"])] * 2}
    assert len(draw_finetuning(ours, metrics, nothing, images=30).axes) == 1


def test_one_arm_has_no_difference(done):
    _, results, folder = done
    alone = parse(
        Experiment,
        {
            **finished.EXPERIMENT,
            "results": str(folder),
            "arms": {"scratch": "scratch"},
            "question": None,
        },
        where="test",
    )
    few = results[results["arm"] == "scratch"]
    for figure in (draw_difference(alone, few), draw_classes(alone, {"scratch": {}})):
        assert "to compare" in figure.texts[0].get_text()
    assert "No arm" in draw_pretraining(alone, {}, finished.kept_losses()).texts[0].get_text()


def test_classes_are_ordered_by_their_difference(done):
    ours, *_ = done
    (axis,) = draw_classes(ours, runs(done)).axes
    table = recall(runs(done)).pivot_table(index=["label", "seed"], columns="arm", values="top1")
    means = (table["mfm"] - table["scratch"]).groupby("label").mean()
    shown = [label.get_text() for label in axis.get_yticklabels()]
    assert sorted(shown) == sorted(finished.CLASSES)
    assert means[shown].is_monotonic_decreasing
    interval = stats.ttest_rel(
        table["mfm"][shown[0]], table["scratch"][shown[0]]
    ).confidence_interval()
    assert any(line == pytest.approx(tuple(interval)) for line in lines(axis) if len(line) == 2)


def test_classes_are_ordered_by_an_arm_that_sees_no_labels(done):
    _, _, folder = done
    values = {**finished.EXPERIMENT, "results": str(folder)}
    values["pretrain"] = {**values["pretrain"], "s": {"task": "supervised", "epochs": 1}}
    values["arms"] = {"scratch": "scratch", "supervised": {"pretrain": "s"}, **values["arms"]}
    ours = parse(Experiment, values, where="test")
    found = runs(done)
    three = {"scratch": found["scratch"], "supervised": found["scratch"], "mfm": found["mfm"]}
    assert draw_classes(ours, three).get_suptitle() == "Ordered by 'mfm'"


def test_confusion_counts_images():
    labels = ["a", "a", "a", "a", "b", "b", "c", "d"]
    predictions = ["a", "b", "c", "d", "b", "a", "a", "d"]
    images = pd.DataFrame({"label": labels, "prediction": predictions})
    assert confusion(images, ["a", "b"], others=True).tolist() == [[25, 25, 50], [50, 50, 0]]
    assert confusion(images, ["d"], others=False).tolist() == [[100]]


def test_curves_show_the_epochs(done):
    ours, *_ = done
    epochs = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 1.0]})
    higher = epochs.assign(loss=[5.0, 3.0])
    (axis,) = draw_finetuning(ours, {"mfm": [epochs, higher]}, {}, images=30).axes
    assert axis.lines[0].get_ydata().tolist() == [4.0, 2.0]
    kept = finished.kept_losses()
    (axis,) = draw_pretraining(ours, {"p": [epochs]}, kept).axes
    drawn = [list(line.get_ydata()) for line in axis.lines]
    assert drawn == [[3, 1], [3, 2], [2.1, 2.1], [4.5, 1.5], [4, 4]]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[1:3] == [
        "fixed validation images, from low frequencies",
        "from low frequencies: zero for every image",
    ]
    assert len({axis.lines[number].get_color() for number in (1, 2)}) == 1
    assert axis.get_title(loc="left") == "p: masked frequency modeling, recipe upstream"
    (axis,) = draw_pretraining(ours, {"p": [epochs]}, kept.assign(loss="of its own")).axes
    assert axis.get_legend().get_texts()[1].get_text() == "fixed validation images, of its own"
    (axis,) = draw_pretraining(ours, {"p": [epochs[:1]]}, kept[:0]).axes
    assert "3.0000" in axis.texts[0].get_text()


def test_a_training_loss_has_its_constant_too(done):
    ours, *_ = done
    epochs = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 1.0]})
    known = finished.kept_losses()[:2].assign(loss="training", predicted="alike", constant=3.5)
    (axis,) = draw_pretraining(ours, {"p": [epochs]}, known).axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[3, 1], [3.5, 3.5]]
    said = axis.get_legend().get_texts()[1].get_text()
    assert said == "training images: the same for every image"
    (axis,) = draw_pretraining(ours, {"p": [epochs[:1]]}, known).axes
    assert axis.texts[0].get_text().endswith("; 3.5000 with the same for all images")


def test_the_frontier_is_of_arms_that_no_cheaper_one_is_as_good_as():
    gains = {"scratch": (0.0,) * 8, "mfm": (2.0,) * 8, "supervised": (1.0,) * 8, "net": (5.0,) * 8}
    ours, rows = finished.plant(gains, arms={"net": {"weights": "elsewhere.pth"}})
    rows["seconds"] = 20.0
    taken = {"masked": [30.0, 50.0], "labels": [60.0]}
    found = prices(ours, rows, taken)
    assert [(each.arm, each.seconds) for each in found] == [
        ("scratch", 20), ("mfm", 60), ("supervised", 80)
    ]  # fmt: skip
    assert [each.arm for each in frontier(found)] == ["scratch", "mfm"]
    assert [each.arm for each in frontier(found[::-1])] == ["scratch", "mfm"]
    (axis,) = draw_frontier(ours, rows, taken).axes
    told = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    assert list(told) == ["scratch", "mfm", "supervised"]
    mean = rows.loc[rows["arm"] == "mfm", "top1"].mean()
    assert told["mfm"].get_xydata().tolist() == [[60, pytest.approx(mean)]]
    assert "trained elsewhere: net" in axis.get_xlabel().replace("\n", " ")
    # A pretraining that is as good as free is on the frontier, and what it beats is not.
    assert [each.arm for each in frontier(prices(ours, rows, {**taken, "labels": [0.0]}))] == [
        "supervised", "mfm"
    ]  # fmt: skip


ODD = [
    "_cat",
    "$a$ and $",
    r"$\frac{1$",
    "100%",
    "back\\slash",
    "new\nline",
    "猫",
    "😀",
    "x" * 255,
    " ",
]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("arms", [["_a", "_b"], [f"{'arm-' * 14}{n}" for n in range(12)]])
def test_names_are_text_whatever_they_look_like_and_none_is_cut_or_lost(tmp_path, arms):
    gains = dict.fromkeys(arms, (17.9, 18.5, 20.0))
    starts = {name: {"pretrain": "masked"} for name in arms[1:]}
    ours, rows = finished.plant(gains, arms=starts, question=None, baseline=arms[0])
    labels = np.repeat(np.array(ODD, object), 4)
    images = pd.DataFrame({"label": labels, "prediction": np.roll(labels, 1)})
    images["correct"] = images["label"] == images["prediction"]
    found = {name: {0: images, 1: images.assign(correct=True)} for name in arms}
    metrics = {name: [pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})] for name in arms}
    figures = {
        "accuracy": draw_accuracy(ours, rows),
        "difference": draw_difference(ours, rows),
        "frontier": draw_frontier(ours, rows, {"masked": [3.0]}),
        "classes": draw_classes(ours, found),
        "confusion": draw_confusion(found),
        "finetuning": draw_finetuning(ours, metrics, {}, images=30),
    }
    for name, figure in figures.items():
        style.save(figure, tmp_path / f"{name}.svg")
        figure.draw_without_rendering()
        inside, drawn = figure.bbox, figure.get_tightbbox()  # in pixels and in inches
        assert min(drawn.x0, drawn.y0) > -0.02, name
        assert drawn.x1 < inside.width / figure.dpi + 0.02, name
        assert drawn.y1 < inside.height / figure.dpi + 0.02, name
    for name, count in (("classes", len(arms) - 1), ("finetuning", len(arms))):
        (legend,) = figures[name].legends
        told = [text.get_text().strip() for text in legend.get_texts()]
        assert told == [style.shown(arm, 44) for arm in arms[-count:]]
        assert len(set(told)) == count
    (axis,) = figures["classes"].axes
    assert all(-100 <= value <= 100 for line in lines(axis) for value in line if len(line) == 2)
    assert figures["accuracy"].axes[0].get_xlim()[1] < 101


def test_colours_tell_arms_apart_without_colour():
    assert len(set(looks([str(number) for number in range(49)]).values())) == 49
    found = looks([str(number) for number in range(7)])
    assert len(set(found.values())) == 7
    assert len({marker for _, marker in found.values()}) == 7
    rgb = matplotlib.colors.to_rgba_array([colour for colour, _ in found.values()])[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert ((1.05 / (luminance + 0.05)) > 1.9).all()  # visible on white


def titles(element):
    return [each.text for each in element.iter(f"{{{marks.SVG}}}title")]


def test_what_is_drawn_says_its_values_and_whose_it_is(tmp_path):
    figure = Figure(layout="constrained")
    axis, other = figure.subplots(1, 2)
    (line,) = axis.plot([1, 2, 9, 3], [1, np.nan, 1, 3], label="a<b")
    style.mark(line, arm="a<b", said=["first & \x01", "missing", "outside", "last"])
    axis.set_xlim(0, 4)
    error = axis.errorbar([1, 2], [2, 2.5], yerr=[0.1, 0.2], label="other")
    style.mark(error, arm="other", said=["one", "two"])
    style.mark(axis.bar([1, 2], [1, 2]), said=["short", "tall"])
    style.mark(other.imshow([[1, 2], [3, 4]]), said=[["1", "2"], ["3", "4"]])
    style.legend(figure, axis)
    for name in ("once", "again"):
        style.save(figure, tmp_path / f"{name}.svg")
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()

    root = xml.etree.ElementTree.parse(tmp_path / "once.svg").getroot()
    groups = [each for each in root.iter(f"{{{marks.SVG}}}g") if "mark" in each.get("id", "")]

    def of(arm):
        return [each for each in groups if each.get("data-arm") == arm]

    # The line, and what stands for it in the legend; no place for what is not seen.
    assert [titles(each) for each in of("a<b")] == [["first &  ", "last"], [], []]
    assert sorted(titles(each) for each in of("other"))[-1] == ["one", "two"]
    assert [titles(each) for each in of(None)] == [["short"], ["tall"], ["1", "2", "3", "4"]]
    # Each point's place lies where the point is drawn.
    (drawn,) = of("a<b")[0].findall(f"{{{marks.SVG}}}path")
    circle = of("a<b")[0].find(f"{{{marks.SVG}}}circle")
    start = [float(number) for number in drawn.get("d").split()[1:3]]
    assert [float(circle.get(key)) for key in ("cx", "cy")] == pytest.approx(start, abs=0.02)
    cells = [each for each in root.iter(f"{{{marks.SVG}}}rect") if len(each)]
    assert len({(each.get("x"), each.get("y")) for each in cells}) == 4
    style.mark(axis.axvspan(1, 2), said=["many"])
    with pytest.raises(TypeError, match="give one text"):
        style.save(figure, tmp_path / "never.svg")
