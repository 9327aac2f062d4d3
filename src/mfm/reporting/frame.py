"""Frame of the table: its arms and floors as numbers, for whoever goes on computing."""

from __future__ import annotations

import pandas as pd

from mfm.evaluation.metrics import METRICS
from mfm.reporting import cost, floors, verdict, words
from mfm.reporting.columns import MeasuredArm
from mfm.reporting.finished import Finished
from mfm.statistics.over_seeds import Estimate

_OTHERS = ["low", "high", "difference", "difference_low", "difference_high"]
_OTHERS += ["verdict", "runs", "cost"]


def frame(found: Finished) -> pd.DataFrame:
    """A row an arm, then one a floor, by its name.

    `low` and `high` are the ends of the 95% interval of what the table is about (top1, in %, or the
    question's metric); difference, its interval and the verdict are the arm's less the baseline;
    cost is in training times of the baseline. What isn't there is missing.
    """
    compared = verdict.compare(found.experiment, found.results)
    arms = [MeasuredArm(name=name, found=found, compared=compared) for name in found.arms]
    rows = [_of_arm(arm) for arm in arms]
    rows += [
        {"arm": f"floor: {floor.name}", **_estimate(found, floor.top1)}
        for floor in floors.floors(found)
    ]
    return pd.DataFrame(rows).set_index("arm").reindex(columns=[found.experiment.metric, *_OTHERS])


def _of_arm(arm: MeasuredArm) -> dict[str, object]:
    compared = arm.from_baseline
    row: dict[str, object] = {"arm": arm.name, **_estimate(arm.found, arm.estimate)}
    if compared is not None:
        gap = compared.difference
        low, high = (None, None) if gap.low == gap.high else (gap.low, gap.high)
        row |= {"difference": gap.mean, "difference_low": low, "difference_high": high}
        row |= {"verdict": gap.verdict}
    elif arm.name == arm.found.experiment.baseline:
        row |= {"verdict": "baseline"}
    return row | {"runs": len(arm.rows), "cost": cost.relative(arm.found, arm.name)}


def _estimate(found: Finished, its: Estimate) -> dict[str, object]:
    """With the ends of the interval where the table has one: that of percentages ends with them."""
    metric = found.experiment.metric
    low, high = its.low, its.high
    if METRICS[metric].share:
        low, high = words.share_limits(its) or (None, None)
    if its.low == its.high:  # the same in every run
        low = high = None
    return {metric: its.mean, "low": low, "high": high}
