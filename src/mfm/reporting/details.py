"""Details below the table: how it was measured, the tests, the cost, and where the weights are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mfm.evaluation.metrics import TOP1
from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import used_pretrainings
from mfm.reporting import constants, cost, floors, measure
from mfm.reporting.columns import MeasuredArm
from mfm.reporting.document import Block, Bullets, Column, Link, Section, Table, Text, joined
from mfm.reporting.finished import Finished
from mfm.reporting.initial_weights import starting_weights
from mfm.reporting.verdict import Comparison
from mfm.reporting.words import epochs, interval, listed, p_text
from mfm.statistics.over_images import ImageTest


def sections(
    found: Finished, compared: Sequence[Comparison], *, once: bool = False
) -> list[Section]:
    """What the rows rest on; `once`: each number once, for a page that has probe.md below."""
    return [
        *([] if once else floors.learned(found)),
        *constants.sections(found),
        Section("How it was measured", [Bullets(_how(found, compared))]),
        *_comparisons(compared, once),
        cost.section(found),
        _runs(found),
    ]


def _how(found: Finished, compared: Sequence[Comparison]) -> list[Text]:
    experiment = found.experiment
    used = used_pretrainings(experiment)
    corrected = [each.difference.comparisons for each in compared if not each.primary]
    family = f"the {max(corrected)} others" if corrected and max(corrected) > 1 else "any other"
    tested = (
        f"The declared comparison is tested at 5%, {family} after Holm's correction."
        if any(each.primary for each in compared)
        else "All comparisons are tested at 5% after Holm's correction for their number."
    )
    its = measure.asked(experiment)
    measured = "Accuracy" if its.name == TOP1 else f"What is compared, {its.title},"
    notes: list[Text] = [
        f"{measured} is that of the last epoch, over {len(found.summary['classes'])} classes. Each "
        "arm has a run for each seed, which draws the labelled images, their order and "
        "augmentation alike in every arm.",
        "A mean is over pretrainings, where an arm has several: the runs of one share what it "
        "happened to learn. Given a single one, and from scratch, it is over seeds.",
        *_methods(compared),
        "Intervals hold 95% and are each difference's own, without correction.",
        f"{tested} better, worse: a t test and an exact test both say so. suggestive: one of "
        "them does.",
        "Cost: the measured training time of a pretraining and a finetuning.",
        *_floors(found),
    ]
    for name, training in used.items():
        if split_of(training, experiment.dataset) == "pretrain":
            notes.append(
                f"'{name}' is pretrained on the unlabelled images of "
                f"{experiment.dataset.unlabelled}, not on the training images."
            )
        if training.labelled:
            same = [each for each in used if each != name]
            same = [each for each in same if used[each].epochs == training.epochs]
            equal = f", as many as '{same[0]}'" if same else ""
            notes.append(
                f"'{name}' is trained by this pipeline on all labelled training images, "
                f"{epochs(training.epochs)}{equal}: it sees labels that the other arms don't, and "
                "is not torchvision's ImageNet model."
            )
    versions = sorted(set(found.results["code_version"]))
    return [*notes, *([f"Code version {versions[0]}."] if len(versions) == 1 else [])]


def _floors(found: Finished) -> list[str]:
    if not floors.floors(found):
        return []
    return [
        "A floor: logistic regression on the same labelled images, without training a network. "
        "Its interval is over seeds."
    ]


def _methods(compared: Sequence[Comparison]) -> list[str]:
    """How differences are taken."""
    lines = []
    paired = [each for each in compared if each.difference.method == "paired"]
    if paired:
        uneven = any(each.difference.n < max(each.seeds) for each in paired)
        more = ": where one arm has more seeds, it is not that of the two means" * uneven
        lines.append(f"A difference is paired over the arms' common seeds{more}.")
    welch = [each for each in compared if each.difference.method == "welch"]
    if welch:
        names = listed(f"{each.arm} less {each.other}" for each in welch)
        lines.append(f"Welch's interval, since seeds or pretrainings do not pair: {names}.")
    return lines


def _rests_on(one: Comparison) -> str:
    gap = one.difference
    counts = f"{gap.units} {one.unit}{'s' * (gap.units != 1)}"
    return f"{counts} in pairs" if gap.method == "paired" else f"{counts} or more of each arm"


TESTS: list[Column[Comparison]] = [
    Column("comparison", lambda one: f"{one.arm} less {one.other}{', declared' * one.primary}"),
    Column("rests on", _rests_on),
    Column("p (t test)", lambda one: p_text(one.difference.p)),
    Column("after Holm", lambda one: p_text(one.difference.adjusted)),
    Column("p (exact)", lambda one: p_text(one.difference.exact_p)),
    Column("exact, after Holm", lambda one: p_text(one.difference.adjusted_exact)),
]


def _images(form: str, value: str) -> Column[tuple[Comparison, ImageTest]]:
    def cell(row: tuple[Comparison, ImageTest]) -> str:
        number = getattr(row[1], value)
        return f"{number:,.1f}" if form == "count" else p_text(number)

    names = {
        "gained": "only the first gets right",
        "lost": "only the second",
        "p": "p (McNemar)",
        "mid_p": "mid-p",
    }
    return Column(names[value], cell)


def _spread(row: tuple[Comparison, ImageTest]) -> str:
    found = row[0].bootstrap
    return "-" if found is None else f"{found.low:+z.2f} to {found.high:+z.2f}"


def _unless_the_same(
    column: Column[tuple[Comparison, ImageTest]],
) -> Column[tuple[Comparison, ImageTest]]:
    """Without an interval that is the one over seeds."""

    def cell(row: tuple[Comparison, ImageTest]) -> Text:
        same = column.cell(row) == interval(row[0].difference, sign="+")
        return "as over seeds" if same else column.cell(row)

    return replace(column, cell=cell)


IMAGES: list[Column[tuple[Comparison, ImageTest]]] = [
    Column("comparison", lambda row: f"{row[0].arm} less {row[0].other}"),
    Column("95% interval over seeds and images", _spread),
    _images("count", "gained"),
    _images("count", "lost"),
    _images("p", "p"),
    _images("p", "mid_p"),
]


def _comparisons(compared: Sequence[Comparison], once: bool) -> list[Section]:
    """The numbers behind the verdicts."""
    if not compared:
        return []
    tests: list[Block] = [
        Table(TESTS, compared),
        Bullets(
            [
                "Exact: by changes of the signs of the paired differences, or by exchanges "
                "between arms that do not pair. It takes no normal distribution for granted.",
                (
                    "What these runs can find, and what more runs or pretrainings would: ",
                    Link("plan.md", "plan.md"),
                    ".",
                ),
            ]
        ),
    ]
    seen = [(each, each.images) for each in compared if each.images is not None]
    groups = next((test.groups for _, test in seen if test.groups is not None), None)
    images: list[Block] = [
        Table([_unless_the_same(each) for each in IMAGES] if once else IMAGES, seen),
        Bullets(
            [
                "McNemar's test is of these trained models on images such as these, exact, "
                "pooled over seed pairs with the image as the unit. It gives no verdict, because "
                "it knows nothing of other seeds. Images: mean over seed pairs.",
                "The interval over seeds and images is by bootstrap, for another draw of both.",
                *(
                    []
                    if groups is None
                    else [
                        f"The evaluated images are of {groups:,} groups, whose images are not "
                        "independent: both draw whole groups, and no single images. The interval "
                        "over seeds, and so the verdict, takes these images as they are."
                    ]
                ),
            ]
        ),
    ]
    return [
        Section("Comparisons in numbers", tests),
        *([Section("The same over images", images)] if seen else []),
    ]


def _before(arm: MeasuredArm) -> Text:
    if arm.pretraining is None:
        return str(getattr(arm.found.experiment.arms[arm.name], "weights", None) or "-")
    layout = arm.found.layout
    links = [
        Link(f"seed {seed}", layout.relative(layout.pretraining(arm.pretraining, seed).weights))
        for seed in sorted({int(seed) for seed in arm.rows["pretraining_seed"]})
    ]
    return joined(links, ", ")


def _finetuned(arm: MeasuredArm) -> Text:
    runs = sorted(zip(arm.rows["seed"], arm.rows["checkpoint"], strict=True))
    relative = arm.found.layout.relative
    return joined([Link(f"seed {seed}", relative(checkpoint)) for seed, checkpoint in runs], ", ")


RUNS: list[Column[MeasuredArm]] = [
    Column("arm", lambda arm: arm.name),
    Column(
        "standard deviation",
        lambda arm: arm.measure.deviation(arm.estimate.deviation),
        unit="{points}",
    ),
    Column("weights after pretraining", _before),
    Column("finetuned weights", _finetuned),
]


def _runs(found: Finished) -> Section:
    rows = [MeasuredArm(name=name, found=found, compared=()) for name in found.arms]
    notes: list[Text] = [
        "The standard deviation is the sample's, over pretrainings or seeds, whichever the mean "
        "is over.",
        *starting_weights(found.experiment, found.results),
    ]
    points = "points" if measure.asked(found.experiment).metric.share else ""
    columns = [column.of(points=points) for column in RUNS]
    return Section("Runs", [Table(columns, rows), Bullets(notes)])
