"""Numbers in the words of the reports."""

from __future__ import annotations

from collections.abc import Iterable

from mfm.reporting.document import Bold, Text
from mfm.statistics.over_seeds import Difference, Estimate


def interval(value: Estimate | Difference, *, sign: str = "", digits: int = 2) -> str:
    """An interval in words; '-' where there is none."""
    if value.low is None or value.high is None:
        return "-"
    return f"{value.low:{sign}z.{digits}f} to {value.high:{sign}z.{digits}f}"


def share_limits(found: Estimate) -> tuple[float, float] | None:
    """Limits of a percentage's interval, which ends where percentages do; None without one."""
    if found.low is None or found.high is None:
        return None
    return max(0.0, found.low), min(100.0, found.high)


def percentage(found: Estimate) -> Text:
    """A mean percentage with its interval, which ends where percentages do."""
    limits = share_limits(found)
    inside = None if limits is None else f"{limits[0]:.2f} to {limits[1]:.2f}"
    return _mean(found, f"{found.mean:.2f}", inside)


def number(found: Estimate, digits: int = 2) -> Text:
    """A mean with its interval: '**0.674** (0.655 to 0.693)'."""
    inside = None if found.low is None else interval(found, digits=digits)
    return _mean(found, f"{found.mean:z.{digits}f}", inside)


def _mean(found: Estimate, mean: str, inside: str | None) -> Text:
    """Runs that all give the same, as of a floor with all labels, leave nothing to estimate."""
    if inside is None:
        return Bold(mean)
    return Bold(mean), f" ({'the same in every run' if found.low == found.high else inside})"


def difference(found: Difference, digits: int = 2) -> str:
    """A difference with its interval, where it has one: '+1.15 (+0.08 to +2.21)'."""
    inside = interval(found, sign="+", digits=digits)
    return f"{points(found.mean, digits)}{'' if found.low == found.high else f' ({inside})'}"


def points(value: float, digits: int = 2) -> str:
    """A difference of percentages; what rounds to zero has no minus."""
    return f"{value:+z.{digits}f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{in_unit(seconds, unit_of([seconds]))} {unit_of([seconds])}"


SECONDS = {"s": 1, "min": 60, "h": 3600}


def unit_of(seconds: Iterable[float]) -> str:
    """The one unit that suits several times: that of the longest."""
    longest = max(seconds, default=0.0)
    return "s" if longest < 120 else "min" if longest < 7200 else "h"


def in_unit(seconds: float, unit: str) -> str:
    """A time as a number of that unit, to two digits and more."""
    value = seconds / SECONDS[unit]
    whole = value >= (10 if unit == "s" else 100)
    return f"{value:.{0 if whole else 1 if value >= 1 else 2}f}"


def hours(seconds: float) -> str:
    """A time in hours, to two digits."""
    value = seconds / 3600
    return f"{value:,.0f} h" if value >= 10 else f"{value:.2g} h"


def epochs(count: int) -> str:
    """'1 epoch', '2 epochs'."""
    return f"{count} epoch{'s' * (count != 1)}"


def p_text(p: float | None) -> str:
    """A p value to read: '0.031', '< 0.0001', or '-'."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def listed(names: Iterable[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
