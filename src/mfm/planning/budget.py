"""Budget of time, and what a drafted experiment loses to it, in one order.

First what costs no answer: pretrainings above the fewest that can answer clearly; smaller images;
shorter trainings, down to half. Then what does: fewer pretrainings, which leave an answer
suggestive at most; trainings of a quarter, which may end before they have learned what they can.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from mfm.errors import UserError
from mfm.planning.cost import cost_of
from mfm.planning.draft import SIZES, Draft
from mfm.planning.speeds import Speeds
from mfm.reporting.words import duration
from mfm.statistics.power import fewest

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float:
    """The seconds of a budget such as '30m'."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)", text)
    if found is None or float(found[1]) == 0:
        raise UserError(f"give a time such as 30m or 8h, not '{text}'")
    return float(found[1]) * _UNITS[found[2]]


SMALLEST = 64  # pixels of images that are larger
ORDER = (
    "pretrainings down to 6, image size down to 64 px, epochs down to half, pretrainings down to "
    "3, epochs down to a quarter"
)
Cut = Callable[[Draft], Draft | None]


def fit(draft: Draft, speeds: Speeds, seconds: float) -> Draft:
    """The draft, less what it takes to be done in so many seconds.

    Raises UserError where nothing that says anything is.
    """
    cuts: list[Cut] = [
        lambda now: _fewer(now, fewest()),
        _smaller,
        lambda now: _shorter(now, 0.5),
        lambda now: _fewer(now, 3),
        lambda now: _shorter(now, 0.25),
    ]
    for cut in cuts:
        while cost_of(draft, speeds).seconds > seconds:
            less = cut(draft)
            if less is None:
                break
            draft = less
    least = cost_of(draft, speeds).seconds
    if least > seconds:
        minutes = int(least // 60) + 1
        beside = speeds.beside(draft.machine.cores)
        raise UserError(
            f"--time: the shortest experiment on these images takes about {duration(least)} here "
            f"({ORDER}): give --time {minutes}m or more, or fewer images"
            f"{f' ({beside})' * bool(beside)}"
        )
    return draft


def told(full: Draft, fitted: Draft) -> list[str]:
    """What was cut, in the order in which it was."""
    found = []
    if fitted.pretrainings < full.pretrainings:
        found.append(f"{fitted.pretrainings} pretrainings and not {full.pretrainings}")
    if fitted.size < full.size:
        found.append(f"images of {fitted.size} px and not {full.size}")
    if fitted.length < full.length:
        found.append(f"{100 * fitted.length:.0f}% of the epochs")
    return found


def _fewer(draft: Draft, least: int) -> Draft | None:
    if draft.pretrainings <= least:
        return None
    return replace(draft, pretrainings=draft.pretrainings - 1)


def _smaller(draft: Draft) -> Draft | None:
    below = [size for size in SIZES if SMALLEST <= size < draft.size]
    return replace(draft, size=below[-1]) if below else None


def _shorter(draft: Draft, least: float) -> Draft | None:
    if draft.length <= least:
        return None
    return replace(draft, length=max(least, round(draft.length - 0.05, 2)))
