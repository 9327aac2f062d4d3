"""Answer: the sentences that the table opens with. A sentence holds at most three numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mfm.experiment.arms import FromWeights
from mfm.experiment.resolve import asked, longer_arms, pretraining_of
from mfm.experiment.settings import Experiment
from mfm.reporting import measure
from mfm.reporting.document import Bold, Text, parts_of
from mfm.reporting.finished import Finished
from mfm.reporting.measure import Measure
from mfm.reporting.verdict import Comparison, between
from mfm.reporting.words import listed
from mfm.statistics.over_seeds import FEWEST, FEWEST_EACH

# That an arm isn't worth its cost takes a clear verdict against it: an interval that holds zero, or
# one test of two, leaves open whether it is.
_NOT_WORTH = "not worth its cost here"
_NOT_SHOWN = "not shown to be worth its cost here"
# Of a verdict at equal cost: what it says of the gain, and of what is trained as long.
_AT_EQUAL_COST = {
    "not distinguishable": (_NOT_SHOWN, "{longer} is not distinguishable from it"),
    "worse": (_NOT_WORTH, "{longer} is better than it"),
    "suggestive (lower)": (_NOT_SHOWN, "{longer} is higher, which is suggestive"),
    "suggestive (higher)": (_NOT_SHOWN, "{longer} is lower, which is suggestive"),
}

_WORDS = {
    "better": "better",
    "worse": "worse",
    "suggestive (higher)": "higher, which is suggestive",
    "suggestive (lower)": "lower, which is suggestive",
    "not distinguishable": "not distinguishable",
    "no verdict": "without a verdict",
}


def opening(experiment: Experiment, found: Sequence[Comparison], *, numbers: bool = True) -> str:
    """The answer to the declared question; without one, to whether any arm is better.

    Without `numbers` it is for where those stand beside it.
    """
    primary = next((each for each in found if each.primary), None)
    if primary is not None:
        return answer(experiment, primary, found, numbers=numbers)
    if (asked_for := experiment.question) is not None:
        both = f"{asked_for.arm} and {asked_for.baseline}"
        return f"No verdict on {both}: there are no runs of both."
    base = experiment.baseline
    compared = [between(found, arm, base) for arm in experiment.arms]
    known = [each for each in compared if each is not None]
    if len(known) == 1:
        return answer(experiment, known[0], found, numbers=numbers)
    if not known:
        return "No verdict: there are no two arms to compare."
    groups: dict[str, list[str]] = {}
    for each in known:
        verdict = each.difference.verdict
        gained = each.difference.claims_gain
        at_cost = _and_its_cost(_at_equal_cost(experiment, each, found)) if gained else ""
        given = f" (given {each.given})" if each.given and verdict != "no verdict" else ""
        groups.setdefault(f"{_WORDS[verdict]}{at_cost}", []).append(f"{each.arm}{given}")
    parts = [
        f"{listed(arms)} {'is' if len(arms) == 1 else 'are'} {word}"
        for word, arms in groups.items()
    ]
    return f"Compared with {base}, {'; '.join(parts)}."


def answer(
    experiment: Experiment, one: Comparison, found: Sequence[Comparison], *, numbers: bool = True
) -> str:
    """One comparison's verdict, and whether longer training alone would have given as much."""
    gap, verdict = one.difference, one.difference.verdict
    longer = longer_arms(experiment)
    other = _longer(one.other) if longer.get(one.other) == one.arm else one.other
    its = measure.asked(experiment)
    if verdict == "no verdict":
        return f"No verdict on {one.arm} and {one.other}: {_why_none(one, its, numbers)}."
    by, plus = (text if numbers else "" for text in _in_numbers(one, its))
    lead = ""
    if verdict in ("better", "worse"):
        body = f"{one.arm} is {verdict} than {other}{by}"
        lead = _NOT_WORTH if _costs_more(experiment, one) and verdict == "worse" else ""
    elif verdict == "not distinguishable":
        body = f"{one.arm} is not distinguishable from {other}{plus}"
        lead = _NOT_SHOWN if _costs_more(experiment, one) else ""
    else:
        lead = "suggestive, not clear"
        body = f"{one.arm} is {'higher' if gap.mean > 0 else 'lower'} than {other}{by}"
        if _costs_more(experiment, one) and not gap.gains:
            lead, body = _NOT_SHOWN, f"{body}, which is suggestive"
    lead = f"{lead[:1].upper()}{lead[1:]}"
    if one.given:
        text = f"{lead}, given {one.given}: {body}" if lead else f"Given {one.given}, {body}"
    else:
        text = f"{lead}: {body}" if lead else body
    at_cost = _and_its_cost(_at_equal_cost(experiment, one, found)) if gap.claims_gain else ""
    return f"{text}{at_cost}."


def _in_numbers(one: Comparison, its: Measure) -> tuple[str, str]:
    """The difference after 'better than it', and after 'not distinguishable from it'."""
    gap = one.difference
    better = f"; {its.better}" if its.better else ""
    within = f"(interval {its.interval(gap)}{better})"
    return f" by {its.size(gap)} {within}", f": {its.change(gap.mean)} {within}"


def _costs_more(experiment: Experiment, one: Comparison) -> bool:
    """Whether the arm is pretrained here, and the other one from scratch."""
    started = isinstance(experiment.arms[one.other], FromWeights)
    return pretraining_of(experiment, one.arm) is not None and not started


def _why_none(one: Comparison, its: Measure, numbers: bool) -> str:
    gap = one.difference
    if gap.low is None:
        plus = f"{its.change(gap.mean)}, and " if numbers else ""
        return f"{plus}an interval needs at least 2 runs of each"
    same = its.change(gap.mean) if numbers else "amount"
    return f"all {one.unit}s differ by the same {same}"


def _at_equal_cost(
    experiment: Experiment, one: Comparison, found: Sequence[Comparison]
) -> Comparison | None:
    """The comparison with what is trained as long, unless this is it."""
    for longer, other in longer_arms(experiment).items():
        if other == one.arm and longer != one.other:
            return between(found, one.arm, longer)
    return None


def _and_its_cost(equal: Comparison | None) -> str:
    if equal is None:
        return ""
    longer, verdict = _longer(equal.other), equal.difference.verdict
    if verdict == "better":
        return f", and better than {longer}"
    if verdict == "no verdict":
        return f", but there is no verdict on it and {longer}"
    if equal.difference.claims_gain:
        return f", but {_NOT_SHOWN}: its gain over {longer} is suggestive"
    worth, why = _AT_EQUAL_COST[verdict]
    return f", but {worth}: {why.format(longer=longer)}"


def _longer(arm: str) -> str:
    return f"scratch trained as long ({arm})"


def remarks(found: Finished, compared: Sequence[Comparison], *, numbers: bool = True) -> list[Text]:
    """What to know of the answer: was it declared, how often did one look, what is missing.

    Without `numbers` it is for where the number of its runs stands beside it.
    """
    experiment = found.experiment
    primary = next((each for each in compared if each.primary), None)
    lines: list[Text] = []
    if primary is not None:
        known = primary.arm in longer_arms(experiment).values()
        if _costs_more(experiment, primary) and not known:
            lines.append(
                "Equal cost was not compared: no arm from scratch is trained as long as "
                f"{primary.arm} with its pretraining."
            )
        lines += _too_few(primary) if numbers else []
    lines += _declared(found)
    if found.looks:
        one = found.looks == 1
        lines.append(
            f"In this checkout, {found.looks} "
            f"{'experiment has' if one else 'different experiments have'} been evaluated on these "
            "images"
            + ("." if one else ": whoever takes the best of several has chosen by chance, in part.")
        )
    return lines


def needed(one: Comparison) -> int | None:
    """How many units a clear verdict takes, where there are fewer."""
    gap = one.difference
    least = FEWEST if gap.method == "paired" else FEWEST_EACH
    return None if gap.verdict in ("better", "worse") or gap.units >= least else least


def _too_few(one: Comparison) -> list[Text]:
    gap, least = one.difference, needed(one)
    if least is None:
        return []
    return [
        f"{gap.units} {one.unit}{'s' * (gap.units != 1)} {'are' if gap.units != 1 else 'is'} too "
        f"few for a clear verdict, whatever they show: it takes {least}"
        f"{' of each arm' if gap.method == 'welch' else ''}."
    ]


def _declared(found: Finished) -> list[Text]:
    """When the question was declared, and whether what was analysed is what was declared."""
    experiment = found.experiment
    if experiment.question is None:
        return [
            "No question was declared (question: in the configuration), so all comparisons share "
            "one correction, and none answers a question that was fixed before."
        ]
    if not found.declarations:
        return [Bold("The question was never declared (no question.csv): read it as exploratory.")]
    last = found.declarations[-1]
    day = f"{datetime.strptime(last.declared[:10], '%Y-%m-%d'):%-d %B %Y}"
    changed = len(found.declarations) > 1
    said = f"{'Changed and declared again' if changed else 'Declared'} on {day}"
    if last.finished:
        runs = f"{last.finished} training run{'s' * (last.finished != 1)}"
        text = f"{said}, after {runs} had finished: read it as exploratory."
        when: Text = Bold(text)
    else:
        when = f"{said}, before any training."
    differing = _differing(found)
    if not differing:
        return [(*parts_of(when), " Analysed as declared.")]
    return [when, Bold(f"Not analysed as declared. {' '.join(differing)}")]


def _differing(found: Finished) -> list[str]:
    """Sentences on what differs from the last declaration."""
    last, now = found.declarations[-1], asked(found.experiment)
    lines = [
        f"The {key} is {now[key]}, declared was {getattr(last, key)}."
        for key in ("arm", "baseline", "metric")
        if now[key] != getattr(last, key)
    ]
    if lines:
        return lines
    rows = found.results[found.results["arm"] == last.arm]
    starts = set(rows["pretraining_seed"]) - {"-"}
    for key, count in (("runs", len(rows)), ("pretrainings", len(starts))):
        declared = getattr(last, key)
        if count != declared:
            less = "fewer" if count < declared else "more"
            lines.append(
                f"There are {less} {key} of {last.arm}: {count}, declared were {declared}."
            )
    return lines
