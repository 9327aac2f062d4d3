"""`table.md`: the comparison, from the rows of results.csv."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd

from mfm import config, workflow
from mfm.report import comparability
from mfm.report.starts import starting_weights
from mfm.statistics import Difference, Estimate, difference, estimate

_HEADER = (
    "initialisation",
    "top-1 (%)",
    "pretrain",
    "finetune",
    "n",
    "sd",
    "95% interval",
    "difference from {baseline}",
    "95% interval of the difference",
    "verdict",
    "epochs",
    "images/s",
    "training time",
)


def collect(rows: list[Path]) -> pd.DataFrame:
    """results.csv from the single rows that evaluations left."""
    return pd.concat([pd.read_csv(path, dtype={"config_hash": str}) for path in rows])


def render(
    *,
    experiment: config.Experiment,
    results: pd.DataFrame,
    pretrain_seconds: dict[str, float],
    summary: dict[str, object],
    folder: Path,
) -> str:
    """The whole table as Markdown; links are relative to `folder`."""
    arms = {str(name): part for name, part in results.groupby("init", sort=False)}
    ordered = [name for name in experiment.initialisations if name in arms]
    baseline = by_seed(arms[experiment.baseline])
    lines = [
        f"# {experiment.model.backbone} on {experiment.dataset.name}: which initialisation?",
        "",
        _setting(experiment, results, summary),
        "",
        "## Measured here",
        "",
        markdown_row(_HEADER).replace("{baseline}", experiment.baseline),
        markdown_row(["---"] * len(_HEADER)),
    ]
    for name in ordered:
        compared = (
            difference(by_seed(arms[name]), baseline) if name != experiment.baseline else None
        )
        lines.append(
            markdown_row(_cells(experiment, name, arms[name], compared, pretrain_seconds, folder))
        )
    lines += ["", *_notes(experiment, arms, ordered, results), ""]
    lines += _published(experiment)
    return "\n".join(lines) + "\n"


def by_seed(part: pd.DataFrame) -> dict[int, float]:
    """Top-1 of one arm's rows by seed."""
    return {int(seed): float(top1) for seed, top1 in zip(part["seed"], part["top1"], strict=True)}


def version_warning(results: pd.DataFrame) -> list[str]:
    """A note where rows were computed by different versions of the code; otherwise none."""
    versions = sorted(set(results["code_version"]))
    if len(versions) < 2:
        return []
    return [
        "- **Warning: rows were computed by different versions of the code** "
        f"({', '.join(versions)})."
    ]


def _setting(
    experiment: config.Experiment, results: pd.DataFrame, summary: dict[str, object]
) -> str:
    split = "holdout" if experiment.dataset.holdout_per_class else "val"
    return (
        f"Top-1 accuracy of the last epoch on the {int(results['images'].iloc[0]):,} images of "
        f"split '{split}' ({len(summary['classes'])} classes)"  # type: ignore[arg-type]
        f", after finetuning on {int(results['train_images'].iloc[0]):,} labelled images for "
        f"{_epochs(experiment.finetune.epochs)}, the same for every arm. One run per arm and seed; "
        "a seed draws the labelled images and their augmentation alike for every arm."
    )


def _cells(
    experiment: config.Experiment,
    name: str,
    part: pd.DataFrame,
    compared: Difference | None,
    pretrain_seconds: dict[str, float],
    folder: Path,
) -> list[str]:
    top1 = estimate(list(part["top1"]))
    pretrain = workflow.pretrain_name(experiment, name)
    source = experiment.initialisations[name]
    if pretrain != "-":
        pretrain_link = f"[{pretrain}](pretrain/{pretrain}/backbone.safetensors)"
    elif isinstance(source, config.Initialisation):
        pretrain_link = str(source.weights)
    else:
        pretrain_link = "-"
    checkpoints = sorted(zip(part["seed"], part["checkpoint"], strict=True))
    finetune_links = ", ".join(
        f"[seed {seed}]({_relative(checkpoint, folder)})" for seed, checkpoint in checkpoints
    )
    epochs = f"{experiment.finetune.epochs}"
    if pretrain != "-":
        epochs = f"{experiment.pretrain[pretrain].epochs} + {epochs}"
    finetuning = float(part["seconds"].mean())
    time = _duration(finetuning)
    if pretrain in pretrain_seconds:
        time = f"{_duration(pretrain_seconds[pretrain])} + {time}"
    return [
        name,
        f"**{top1.mean:.2f}**",
        pretrain_link,
        finetune_links,
        str(top1.n),
        "-" if top1.deviation is None else f"{top1.deviation:.2f}",
        interval(top1),
        "-" if compared is None else f"{compared.mean:+.2f}",
        "-" if compared is None else interval(compared, sign="+"),
        "baseline" if compared is None else compared.verdict,
        epochs,
        f"{part['images_per_second'].median():.0f}",
        time,
    ]


def _notes(
    experiment: config.Experiment,
    arms: dict[str, pd.DataFrame],
    ordered: list[str],
    results: pd.DataFrame,
) -> list[str]:
    base = experiment.baseline
    methods = {
        difference(by_seed(arms[name]), by_seed(arms[base])).method
        for name in ordered
        if name != base
    }
    how = {
        "paired": "paired over the arms' common seeds, t interval of the seeds' differences",
        "welch": "Welch's t interval, since the arms have different seeds",
    }
    notes = [
        f"- n is the number of seeds; sd the sample standard deviation over seeds; difference: the "
        f"arm less '{base}', in points"
        + (f" ({'; '.join(how[method] for method in sorted(methods))})." if methods else "."),
        "- epochs and training time: pretraining + one finetuning. images/s: median of the "
        "finetuning epochs, all processes together.",
    ]
    for name in workflow.used_pretrainings(experiment):
        training = experiment.pretrain[name]
        if config.pretrain_split(training, experiment.dataset) == "pretrain":
            notes.append(
                f"- '{name}' is pretrained on the unlabelled images of "
                f"{experiment.dataset.unlabelled}, not on the training images."
            )
        if isinstance(training, config.SupervisedPretraining):
            same = [
                other
                for other in workflow.used_pretrainings(experiment)
                if other != name and experiment.pretrain[other].epochs == training.epochs
            ]
            equal = f", as many as '{same[0]}'" if same else ""
            notes.append(
                f"- '{name}' is trained by this pipeline on all labelled training images, "
                f"{_epochs(training.epochs)}{equal}: it sees labels that the other arms don't, and "
                "is not torchvision's ImageNet model."
            )
    versions = sorted(set(results["code_version"]))
    if len(versions) == 1:
        notes.append(f"- Code version {versions[0]}.")
    return notes + starting_weights(experiment, results) + comparability.warnings(results)


def _published(experiment: config.Experiment) -> list[str]:
    published = load_published()
    ours = (published["dataset"] == experiment.dataset.name) & (
        published["backbone"] == experiment.model.backbone
    )
    lines: list[str] = []
    groups = (
        (published[ours], "same dataset and backbone as above"),
        (
            published[~ours],
            f"not comparable with the rows above, which are {experiment.model.backbone} on "
            f"{experiment.dataset.name}",
        ),
    )
    titles = {"upstream": "Published by upstream", "paper": "Published in the paper"}
    for part, relation in groups:
        for publisher, title in titles.items():
            rows = part[part["publisher"] == publisher]
            if rows.empty:
                continue
            lines += [f"## {title} ({relation})", ""]
            head = (
                "initialisation",
                "top-1 (%)",
                "dataset",
                "backbone",
                "epochs",
                "source",
                "note",
            )
            lines += [markdown_row(head), markdown_row(["---"] * len(head))]
            for row in rows.to_dict("records"):
                epochs = f"{row['pretrain_epochs']} + {row['finetune_epochs']}"
                lines.append(
                    markdown_row(
                        [
                            str(row["row"]),
                            str(row["top1"]),
                            str(row["dataset"]),
                            str(row["backbone"]),
                            epochs if row["pretrain_epochs"] else str(row["finetune_epochs"]),
                            str(row["source"]),
                            str(row["note"]),
                        ]
                    )
                )
            lines.append("")
    return lines


def load_published() -> pd.DataFrame:
    """Published figures, with their sources (DESIGN section 5)."""
    with (files("mfm.report") / "published.csv").open() as file:
        return pd.read_csv(file, dtype={"top1": str}, keep_default_na=False)


def _relative(path: str, folder: Path) -> str:
    return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path


def interval(value: Estimate | Difference, *, sign: str = "") -> str:
    """An interval in words; '-' where there is none."""
    if value.low is None or value.high is None:
        return "-"
    return f"{value.low:{sign}.2f} to {value.high:{sign}.2f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"


def markdown_row(cells: list[str] | tuple[str, ...]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
