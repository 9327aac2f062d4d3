"""Equal tuning: the same grid of finetuning settings for every arm, on images set aside.

The trials are variants of the experiment that are evaluated on the holdout, with seeds that the
table doesn't use. Each arm's best one is then finetuned with the table's seeds and evaluated as the
table is, beside the recipe that all arms share.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mfm.settings.section import Section, Seeds

if TYPE_CHECKING:  # half a second for every start of the workflow and of a job
    import pandas as pd

TRIALS, TUNED = "tuning", "tuned"  # below variants/


class Tuning(Section):
    """Trials of finetuning settings, the same for every arm."""

    grid: dict[str, list[Any]] = Field(
        min_length=1,
        description="Values of finetuning settings, by their keys below 'finetune:', e.g. "
        "{optimizer.lr: [0.001, 0.003], epochs: [30, 100]}; every combination is tried.",
    )
    seeds: Seeds = Field(description="Seeds of the trials; none that the table uses.")
    use: Literal["shared", "own"] = Field(
        "shared",
        description="What the table's arms are finetuned with: 'shared', the experiment's recipe, "
        "or 'own', each arm's best trial. tuning.md has both.",
    )

    @field_validator("grid")
    @classmethod
    def _values(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in value.items():
            if not values:
                raise ValueError(f"'{key}' has no values")
        return value

    @model_validator(mode="after")
    def _several(self) -> Self:
        if len(self.trials) < 2:
            raise ValueError("a grid has at least two combinations to choose from")
        return self

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Every combination of the grid, in its order."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]


class Choice(Section):
    """What the trials decided."""

    best: dict[str, str] = Field(description="Each arm's best trial, by its name.")
    shared: str = Field(description="The trial that is best for all arms together.")


def choose(rows: pd.DataFrame) -> Choice:
    """The best trials by their mean top-1 on the holdout; of equal ones the first in the grid.

    `rows` are those of all trials, in the grid's order: arm, trial, seed, top1. Every arm has the
    same trials and seeds.
    """
    counts = rows.groupby(["arm", "trial"])["seed"].nunique().unstack()
    assert counts.stack().nunique() == 1, "arms differ in their trials"
    means = rows.groupby(["arm", "trial"], sort=False)["top1"].mean()
    arms = [str(arm) for arm in dict.fromkeys(rows["arm"])]
    together = rows.groupby("trial", sort=False)["top1"].mean()
    return Choice(
        best={arm: str(means[arm].idxmax()) for arm in arms}, shared=str(together.idxmax())
    )
