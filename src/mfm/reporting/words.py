"""Numbers in the words of the reports."""

from __future__ import annotations

from mfm.statistics.over_seeds import Difference, Estimate


def interval(value: Estimate | Difference, *, sign: str = "") -> str:
    """An interval in words; '-' where there is none."""
    if value.low is None or value.high is None:
        return "-"
    return f"{value.low:{sign}.2f} to {value.high:{sign}.2f}"


def points(value: float) -> str:
    """A difference of accuracies in percent."""
    return f"{value:+.2f} points"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def hours(seconds: float) -> str:
    """A time in hours, to two digits."""
    value = seconds / 3600
    return f"{value:,.0f} h" if value >= 10 else f"{value:.2g} h"


def epochs(count: int) -> str:
    """'1 epoch', '2 epochs'."""
    return f"{count} epoch{'s' * (count != 1)}"
