"""`ablation_*.md`: what changes when one setting of the experiment does."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mfm.experiment import ablations
from mfm.experiment.settings import Experiment, FromWeights
from mfm.reporting.markdown import interval, markdown_row
from mfm.reporting.table import collect as collect_rows
from mfm.reporting.table import version_warning
from mfm.reporting.verdict import by_seed
from mfm.statistics.over_seeds import corrected, difference, estimate
from mfm.statistics.variance import Component, split

_TITLES = {
    "val_resize": "does the evaluation's size matter?",
    "loss": "cross-entropy or binary cross-entropy?",
    "crop": "how small may a crop of the pretraining be?",
    "variance": "how much does the pretraining's seed matter?",
}
_HOLM = (
    "- Verdicts have Holm's correction for the number of them in their column; an interval is each "
    "difference's own. The rows in bold are the experiment's, whose verdict is table.md's."
)


def collect(experiment: Experiment, ablation: str) -> pd.DataFrame:
    """The result rows of an ablation, with the name of the value in the column 'value'.

    A variant of the arm is called as the arm itself: the value says which it is.
    """
    parts = []
    for value, paths in ablations.rows(experiment, ablation).items():
        part = collect_rows([Path(path) for path in paths]).assign(value=value)
        variants = ~part["init"].isin(list(experiment.arms))
        part.loc[variants, "init"] = experiment.ablations.arm
        parts.append(part)
    return pd.concat(parts)


def render(experiment: Experiment, ablation: str, results: pd.DataFrame) -> str:
    """The ablation as Markdown."""
    bodies = {
        "val_resize": _sizes,
        "loss": _variants,
        "crop": _variants,
        "variance": _variance,
    }
    lines = [
        f"# {experiment.model.backbone} on {experiment.dataset.name}: {_TITLES[ablation]}",
        "",
        *bodies[ablation](experiment, ablation, results),
        *version_warning(results),
    ]
    return "\n".join(lines) + "\n"


def _head(cells: list[str]) -> list[str]:
    return [markdown_row(cells), markdown_row(["---"] * len(cells))]


def _groups(results: pd.DataFrame, value: str) -> dict[str, pd.DataFrame]:
    part = results[results["value"] == value]
    return {str(name): rows for name, rows in part.groupby("init", sort=False)}


def _own(experiment: Experiment, ablation: str) -> str:
    return ablations.name_of(ablations.own_value(experiment, ablation))


def _names(experiment: Experiment, ablation: str) -> list[str]:
    return [ablations.name_of(value) for value in ablations.values(experiment, ablation)]


Pair = tuple[pd.DataFrame, pd.DataFrame]  # rows of an arm, and of what it is compared with


def _compared(pairs: dict[tuple[str, str], Pair], own: str) -> dict[tuple[str, str], list[str]]:
    """Cells of each difference, by (value, arm); verdicts with Holm's correction for their number.

    The rows of the experiment's own value were the question, not one of many: table.md answers it.
    """
    found = {key: difference(by_seed(a), by_seed(b)) for key, (a, b) in pairs.items()}
    verdicts = corrected({key: one for key, one in found.items() if key[0] != own})
    return {
        key: [
            f"{one.mean:+.2f}",
            interval(one, sign="+"),
            verdicts[key].verdict if key in verdicts else "see table.md",
        ]
        for key, one in found.items()
    }


def _sizes(experiment: Experiment, ablation: str, results: pd.DataFrame) -> list[str]:
    own, sizes = _own(experiment, ablation), _names(experiment, ablation)
    groups = {size: _groups(results, size) for size in sizes}
    base, crop = experiment.baseline, experiment.evaluate.crop
    lines = [
        f"Top-1 (%) of the same models, mean over seeds, by the image's short side before the "
        f"centre crop of {crop} pixels. **{own}** was fixed in advance and is the table's; no size "
        "is chosen here.",
        "",
        *_head(["initialisation", *(f"**{s}**" if s == own else s for s in sizes), "spread"]),
    ]
    for arm in experiment.arms:
        means = [float(groups[size][arm]["top1"].mean()) for size in sizes]
        cells = [f"{mean:.2f}" for mean in means]
        lines.append(markdown_row([arm, *cells, f"{max(means) - min(means):.2f}"]))
    others = [arm for arm in experiment.arms if arm != base]
    if others:
        head = ["initialisation", "short side", f"difference from {base}"]
        lines += ["", *_head([*head, "95% interval of the difference", "verdict"])]
    rows = [(arm, size) for arm in others for size in sizes]
    cells_of = _compared(
        {(size, arm): (groups[size][arm], groups[size][base]) for arm, size in rows}, own
    )
    for arm, size in rows:
        shown = f"**{size}**" if size == own else size
        lines.append(markdown_row([arm, shown, *cells_of[size, arm]]))
    return [*lines, "", "- spread: the largest mean less the smallest.", _HOLM]


def _variants(experiment: Experiment, ablation: str, results: pd.DataFrame) -> list[str]:
    own, names = _own(experiment, ablation), _names(experiment, ablation)
    groups = {name: _groups(results, name) for name in names}
    base = experiment.baseline
    if ablation == "loss":
        what, column = "finetuned with each loss", "loss"
        shown = list(experiment.arms)
    else:
        high = experiment.pretrain[_pretraining(experiment)].crop.area[1]
        what = f"its pretraining's crops having at least this share of an image (at most {high:g})"
        column, shown = "smallest area", [experiment.ablations.arm]
    head = [column, "initialisation", "top-1 (%)", "n", "95% interval"]
    head += [f"difference from {own}", "95% interval", "verdict"]
    head += [f"difference from {base}", "95% interval", "verdict"]
    lines = [
        f"Top-1 (%), {what}; all else is as in table.md, and the rows of **{own}** are its runs. "
        "Intervals and verdicts are computed as there, pairs by seed.",
        "",
        *_head(head),
    ]
    rows = [(name, arm) for name in names for arm in shown]
    changed = _compared(
        {(name, arm): (groups[name][arm], groups[own][arm]) for name, arm in rows if name != own},
        own,
    )
    against = _compared(
        {(name, arm): (groups[name][arm], groups[name][base]) for name, arm in rows if arm != base},
        own,
    )
    none = ["-"] * 3
    for name, arm in rows:
        top1 = estimate(list(groups[name][arm]["top1"]))
        cells = [f"**{name}**" if name == own else name, arm, f"{top1.mean:.2f}", str(top1.n)]
        changes = [*changed.get((name, arm), none), *against.get((name, arm), none)]
        cells += [interval(top1), *changes]
        lines.append(markdown_row(cells))
    return [*lines, "", _HOLM]


def _pretraining(experiment: Experiment) -> str:
    source = experiment.arms[experiment.ablations.arm]
    assert isinstance(source, FromWeights)
    assert source.pretrain is not None
    return source.pretrain


def _variance(experiment: Experiment, ablation: str, results: pd.DataFrame) -> list[str]:
    own, arm = _own(experiment, ablation), experiment.ablations.arm
    table = results.pivot(index="value", columns="seed", values="top1")
    table = table.loc[_names(experiment, ablation)]
    found = split(table.to_numpy())
    lines = [
        f"Top-1 (%) of '{arm}': {found.pretrainings} pretrainings that differ in their seed alone, "
        f"each finetuned with the same {found.finetunings} seeds. The row of pretraining seed "
        f"**{own}** are the table's runs.",
        "",
        *_head(["pretraining seed", *(f"finetuning seed {seed}" for seed in table), "mean"]),
    ]
    for name, row in table.iterrows():
        cells = [f"{value:.2f}" for value in row]
        label = f"**{name}**" if name == own else str(name)
        lines.append(markdown_row([label, *cells, f"{row.mean():.2f}"]))
    lines += [
        "",
        *_head(["", "standard deviation (points)", "95% interval", "variance"]),
        _component("between pretrainings", found.between),
        _component("within a pretraining, between its finetunings", found.within),
        "",
    ]
    if found.p != found.p:  # nothing varies
        return [*lines, "All runs have the same top-1: there is no variance to split."]
    share = found.share
    verdict = (
        f"is distinguishable from zero (F test, p = {found.p:.2g})"
        if found.p < 0.05
        else f"is not distinguishable from zero with {found.pretrainings} pretrainings "
        f"(F test, p = {found.p:.2g})"
    )
    return [
        *lines,
        f"- The variance between pretrainings {verdict}; it is {100 * share.variance:.0f}% of the "
        f"variance of a run (95% interval {100 * share.low:.0f} to {100 * share.high:.0f}%).",
        "- Two-way random effects: pretraining, finetuning seed, rest. A finetuning seed draws the "
        "same labelled images for every pretraining; 'within' is the seed's part and the rest. An "
        "estimate below zero is shown as 0. Intervals: modified large-sample; of the share, McGraw "
        "and Wong's for ICC(A,1) (src/mfm/variance.py).",
    ]


def _component(name: str, part: Component) -> str:
    deviations = [f"{max(0.0, value) ** 0.5:.2f}" for value in (part.low, part.high)]
    estimate = max(0.0, part.variance)
    return markdown_row([name, f"{estimate**0.5:.2f}", " to ".join(deviations), f"{estimate:.3f}"])
