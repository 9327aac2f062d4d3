"""Table of the comparison: the arms with their intervals, verdicts and cost, published figures."""

from __future__ import annotations

import pandas as pd

from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import longer_arms, used_pretrainings
from mfm.experiment.settings import Experiment
from mfm.reporting import comparability, cost, plan, published, verdict
from mfm.reporting.columns import COLUMNS, MeasuredArm
from mfm.reporting.document import Block, Bullets, Link, Paragraph, Section, Table, Text, parts_of
from mfm.reporting.finished import Finished
from mfm.reporting.initial_weights import starting_weights
from mfm.reporting.words import epochs

VERDICT = "Verdict"


def document(found: Finished) -> Section:
    """The whole table."""
    blocks = [*comparison(found), *published.sections(found.experiment)]
    return Section(title(found.experiment), blocks)


def title(experiment: Experiment) -> str:
    """The question."""
    return f"{experiment.model.backbone} on {experiment.dataset.name}: which arm is better?"


def comparison(found: Finished) -> list[Block]:
    """What is measured here: setting, rows, verdict, cost."""
    experiment = found.experiment
    right = verdict.load_right(found.results)
    compared = verdict.against_baseline(experiment, found.results, right)
    rows = measured(found, compared)
    meanings = Bullets([*_meanings(experiment, compared), *_notes(found)])
    blocks: list[Block] = [
        Paragraph(_setting(found)),
        Section("Measured here", [rows, meanings]),
    ]
    if compared:
        others = verdict.among_others(experiment, found.results, right)
        blocks.append(_verdicts(compared, others, found.results))
    return [*blocks, cost.section(found)]


def measured(found: Finished, compared: list[verdict.Comparison]) -> Table[MeasuredArm]:
    """A row for each arm."""
    differences = {each.arm: each.difference for each in compared}
    return Table(
        [column.of(baseline=found.experiment.baseline) for column in COLUMNS],
        [
            MeasuredArm(name=name, found=found, difference=differences.get(name))
            for name in found.arms
        ],
    )


def _setting(found: Finished) -> str:
    experiment, first = found.experiment, found.results.iloc[0]
    split = experiment.evaluate.split
    longer = longer_arms(experiment)
    but = f" but {', '.join(longer)}, which is trained longer" if longer else ""
    return (
        f"Top-1 accuracy of the last epoch on the {int(first['images']):,} images of split "
        f"'{split}' ({len(found.summary['classes'])} classes), after finetuning on "
        f"{int(first['train_images']):,} labelled images for "
        f"{epochs(experiment.finetune.epochs)}, the same for every arm{but}. One run per arm and "
        "seed; a seed draws the labelled images and their augmentation alike for every arm."
    )


def _verdicts(
    compared: list[verdict.Comparison], others: list[verdict.Comparison], results: pd.DataFrame
) -> Section:
    seconds = plan.run_seconds(results)
    lines: list[Text] = []
    for each in compared:
        more = plan.sentence(each, seconds)
        lines.append((*parts_of(verdict.sentence(each)), f" {more}" if more else ""))
    lines += [verdict.sentence(each) for each in others]
    among = (
        ", after Holm's correction for the comparisons with the baseline; the comparisons among "
        "the other arms are beside the question, and have a correction of their own"
    )
    return Section(
        VERDICT,
        [
            Bullets(lines),
            verdict.details([*compared, *others]),
            Bullets(
                [
                    "Verdicts are over seeds, on these images: by the p of the t test"
                    f"{among if others else ''}. The interval over seeds and images is by "
                    "bootstrap, for another draw of both.",
                    "McNemar's test is of these trained models, over images, exact, and pooled "
                    "over seed pairs with the image as the unit; mid-p counts half of the observed "
                    "outcome. Images: mean over seed pairs.",
                    (
                        "How many seeds would resolve which difference, and their cost: ",
                        Link("plan.md", "plan.md"),
                        ".",
                    ),
                ]
            ),
        ],
    )


def _meanings(experiment: Experiment, compared: list[verdict.Comparison]) -> list[Text]:
    """What the columns say."""
    methods = {each.difference.method for each in compared}
    how = {
        "paired": "paired over the arms' common seeds, t interval of the seeds' differences",
        "welch": "Welch's t interval, since the arms have different seeds",
    }
    told = f" ({'; '.join(how[method] for method in sorted(methods))})" if methods else ""
    return [
        "n is the number of seeds; sd the sample standard deviation over seeds; difference: the "
        f"arm less '{experiment.baseline}', in points{told}.",
        "epochs and training time: pretraining + one finetuning. images/s: median of the "
        "finetuning epochs, all processes together.",
    ]


def _notes(found: Finished) -> list[Text]:
    """What there is to know about the arms, and warnings."""
    experiment, results = found.experiment, found.results
    used = used_pretrainings(experiment)
    notes: list[Text] = []
    for name, training in used.items():
        if split_of(training, experiment.dataset) == "pretrain":
            notes.append(
                f"'{name}' is pretrained on the unlabelled images of "
                f"{experiment.dataset.unlabelled}, not on the training images."
            )
        if training.labelled:
            same = [other for other in used if other != name]
            same = [other for other in same if used[other].epochs == training.epochs]
            equal = f", as many as '{same[0]}'" if same else ""
            notes.append(
                f"'{name}' is trained by this pipeline on all labelled training images, "
                f"{epochs(training.epochs)}{equal}: it sees labels that the other arms don't, and "
                "is not torchvision's ImageNet model."
            )
    versions = sorted(set(results["code_version"]))
    if len(versions) == 1:
        notes.append(f"Code version {versions[0]}.")
    notes += starting_weights(experiment, results)
    return notes + comparability.warnings(results, longer=list(longer_arms(experiment)))
