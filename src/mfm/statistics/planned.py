"""Planned number of runs, judged before anything runs."""

from __future__ import annotations


def judge(
    *,
    runs: int,
    pretrainings: int,
    difference: float | None,
    deviation: float | None,
    unit: str = "points",
) -> str:
    """What so many runs of an arm from so many pretrainings (0: from scratch) can find.

    `difference` is what the question is about and `deviation` the standard deviation expected of
    one run's difference, both in `unit`. How much of the latter is the pretraining's is not known
    then: from none of it to all of it.
    """
    # Not at the top of the file: scipy takes a second that few starts of the workflow need.
    from mfm.statistics.over_seeds import FEWEST
    from mfm.statistics.power import smallest_difference

    units = min(runs, pretrainings) if pretrainings > 1 else runs
    who = _counted(runs, "run")
    if pretrainings:
        who += f" from {_counted(pretrainings, 'pretraining')}"
    if units < 2:
        return f"{who} can give no interval and no verdict"
    parts = []
    if deviation is not None:
        least = smallest_difference(units, deviation * (units / runs) ** 0.5)
        most = smallest_difference(units, deviation)
        digits = 2 if "points" in unit else 4
        found = f"{most:.{digits}f}"
        if runs != units:
            found = f"{least:.{digits}f} to {found}"
        by = "" if runs == units else ", by how much pretrainings differ"
        parts.append(f"{who} find {found} {unit} with 80%{by} (sd {deviation:g} a pair)")
    if difference is not None:
        parts.append(f"the question is about {difference:g}")
    if units < FEWEST:
        kind = "pretrainings" if pretrainings > 1 else "pairs"
        parts.append(f"with fewer than {FEWEST} {kind} the answer is at most 'suggestive'")
    elif deviation is None:
        parts.append("what they can find is known with question.deviation")
    if deviation is None:
        parts[0] = f"{who}: {parts[0]}"
    return "; ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
