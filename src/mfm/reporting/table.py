"""Table of the comparison: an answer, the arms, and below them everything that they rest on."""

from __future__ import annotations

from collections.abc import Sequence

from mfm.evaluation.metrics import TOP1
from mfm.experiment.resolve import longer_arms
from mfm.experiment.settings import Experiment
from mfm.reporting import (
    answer,
    comparability,
    constants,
    details,
    floors,
    images,
    measure,
    published,
    verdict,
)
from mfm.reporting.columns import MeasuredArm, columns
from mfm.reporting.document import (
    Block,
    Bold,
    Paragraph,
    Section,
    Table,
    Text,
    joined,
)
from mfm.reporting.finished import Finished
from mfm.reporting.floors import Floor
from mfm.reporting.verdict import Comparison
from mfm.reporting.words import epochs, listed


def document(found: Finished) -> Section:
    """The whole table."""
    compared = compare(found)
    blocks = [
        Paragraph(opening(found, compared)),
        *arms(found, compared),
        *details.sections(found, compared),
        *published.sections(found.experiment),
    ]
    return Section(title(found.experiment), blocks)


def title(experiment: Experiment) -> str:
    """The question."""
    asked = experiment.question
    which = (
        "which arm is better" if asked is None else f"is {asked.arm} better than {asked.baseline}"
    )
    return f"{experiment.model.backbone} on {experiment.dataset.name}: {which}?"


def compare(found: Finished) -> list[Comparison]:
    """All comparisons, over seeds and images."""
    results = found.results
    right, groups = verdict.load_right(results), verdict.load_groups(results)
    return verdict.compare(found.experiment, results, right, groups)


def opening(found: Finished, compared: Sequence[Comparison]) -> Text:
    """The one sentence that answers."""
    return Bold(answer.opening(found.experiment, compared))


def arms(found: Finished, compared: Sequence[Comparison]) -> list[Block]:
    """The rows, with what is to be known before they are believed."""
    remarks = [*answer.remarks(found, compared), *images.notes(found)]
    return [
        Paragraph(joined(remarks, " ")),
        Paragraph(setting(found)),
        measured(found, compared),
        *alarms(found, compared),
    ]


def alarms(found: Finished, compared: Sequence[Comparison]) -> list[Block]:
    """What may spoil the comparison, or bounds what it says."""
    lines: list[Text] = [
        *floors.warning(found),
        *floors.lost(found),
        *constants.warning(found),
        *_given(found, compared),
        *comparability.continued(found.results),
        *_corrected(compared),
    ]
    warnings = comparability.warnings(found.results, intended=_intended(found.experiment))
    return [*(Paragraph(line) for line in lines), *warnings]


def measured(found: Finished, compared: Sequence[Comparison]) -> Table[MeasuredArm | Floor]:
    """A row for each arm, then one for each floor."""
    rows: list[MeasuredArm | Floor] = [
        MeasuredArm(name=name, found=found, compared=compared) for name in found.arms
    ]
    return Table(columns(found), [*rows, *floors.floors(found)])


def setting(found: Finished) -> Text:
    """How much every arm is finetuned on, and what it is evaluated on."""
    experiment, first = found.experiment, found.results.iloc[0]
    recipe = f"for {epochs(experiment.finetune.epochs)}"
    if experiment.tuning is not None:  # the table has each arm's own best, then
        recipe = "with the settings that were best for it on images set aside (tuning.md)"
    longer = [
        f" {name} is trained as long as {other} with its pretraining, for "
        f"{epochs(int(found.arms[name]['epochs'].max()))}."
        for name, other in longer_arms(experiment).items()
        if name in found.arms
    ]
    what = "Accuracies are those on the"
    if (its := measure.asked(experiment)).name != TOP1:
        what = f"What is compared is {its.title} on the"
    split = experiment.evaluate.split
    groups = found.summary["splits"].get(split, {}).get("groups", 0)
    whole = f", which are of {groups:,} groups" * (0 < groups < int(first["images"]))
    return (
        f"Every arm is finetuned on {int(first['train_images']):,} labelled images, each seed's "
        f"the same in all arms, {recipe}. {what} {int(first['images']):,} "
        f"images of split '{split}'{whole}.{''.join(longer)}"
    )


def _intended(experiment: Experiment) -> dict[str, list[str]]:
    """In what arms were asked to differ."""
    asked = {"training.epochs": list(longer_arms(experiment))}
    if experiment.tuning is not None:
        asked |= {f"training.{key}": list(experiment.arms) for key in experiment.tuning.grid}
    return asked


def _corrected(compared: Sequence[Comparison]) -> list[Text]:
    """Why an interval without zero may stand beside a difference that is not distinguishable."""
    count = max((each.difference.comparisons for each in compared), default=1)
    if count < 2:
        return []
    which = "" if not any(each.primary for each in compared) else ", but for the declared one,"
    return [f"Verdicts{which} are corrected for {count} comparisons; intervals are not."]


def _another(given: str) -> str:
    return "others" if given == "these weights" else "another"


def _given(found: Finished, compared: Sequence[Comparison]) -> list[Text]:
    """A sentence on verdicts that another pretraining might change."""
    base = found.experiment.baseline
    groups: dict[str, list[str]] = {}
    for each in (verdict.between(compared, name, base) for name in found.arms):
        if each is not None and each.given and each.difference.verdict != "no verdict":
            groups.setdefault(each.given, []).append(each.arm)
    return [
        f"Every verdict on {listed(names)} is given {given}: {_another(given)} may do better or "
        "worse."
        for given, names in groups.items()
    ]
