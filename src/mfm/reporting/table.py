"""`table.md`: the comparison, from the rows of results.csv."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd

from mfm.data.settings import evaluated_split
from mfm.evaluation.columns import COLUMNS
from mfm.experiment import resolve
from mfm.experiment.settings import Experiment, FromWeights
from mfm.objectives import pretrain_split
from mfm.objectives.supervised.settings import SupervisedPretraining
from mfm.reporting import comparability, cost, plan, verdict
from mfm.reporting.initial_weights import starting_weights
from mfm.reporting.markdown import duration, epochs, interval, markdown_row
from mfm.statistics.over_seeds import Difference, estimate

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
    """results.csv from the single rows that evaluations left; its columns alone from none."""
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat([pd.read_csv(path, dtype={"config_hash": str}) for path in rows])


def render(
    *,
    experiment: Experiment,
    results: pd.DataFrame,
    pretrain_seconds: dict[str, float],
    summary: dict[str, object],
    folder: Path,
) -> str:
    """The whole table as Markdown; links are relative to `folder`."""
    arms = {str(name): part for name, part in results.groupby("init", sort=False)}
    ordered = [name for name in experiment.arms if name in arms]
    right = verdict.load_right(results)
    compared = verdict.against_baseline(experiment, results, right)
    differences = {each.arm: each.difference for each in compared}
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
        lines.append(
            markdown_row(
                _cells(
                    experiment, name, arms[name], differences.get(name), pretrain_seconds, folder
                )
            )
        )
    lines += ["", *_notes(experiment, compared, results), ""]
    lines += _verdict(compared, verdict.among_others(experiment, results, right), results)
    lines += ["## Cost", "", *cost.render(experiment, arms, pretrain_seconds, summary), ""]
    lines += _published(experiment)
    return "\n".join(lines) + "\n"


def version_warning(results: pd.DataFrame) -> list[str]:
    """A note where rows were computed by different versions of the code; otherwise none."""
    versions = sorted(set(results["code_version"]))
    if len(versions) < 2:
        return []
    return [
        "- **Warning: rows were computed by different versions of the code** "
        f"({', '.join(versions)})."
    ]


def _setting(experiment: Experiment, results: pd.DataFrame, summary: dict[str, object]) -> str:
    split = evaluated_split(experiment.dataset)
    longer = resolve.longer_arms(experiment)
    but = f" but {', '.join(longer)}, which is trained longer" if longer else ""
    return (
        f"Top-1 accuracy of the last epoch on the {int(results['images'].iloc[0]):,} images of "
        f"split '{split}' ({len(summary['classes'])} classes)"  # type: ignore[arg-type]
        f", after finetuning on {int(results['train_images'].iloc[0]):,} labelled images for "
        f"{epochs(experiment.finetune.epochs)}, the same for every arm{but}. One run per arm and "
        "seed; a seed draws the labelled images and their augmentation alike for every arm."
    )


def _cells(
    experiment: Experiment,
    name: str,
    part: pd.DataFrame,
    compared: Difference | None,
    pretrain_seconds: dict[str, float],
    folder: Path,
) -> list[str]:
    top1 = estimate(list(part["top1"]))
    pretrain = resolve.pretrain_name(experiment, name)
    source = experiment.arms[name]
    if pretrain != "-":
        pretrain_link = f"[{pretrain}](pretrain/{pretrain}/backbone.safetensors)"
    elif isinstance(source, FromWeights):
        pretrain_link = str(source.weights)
    else:
        pretrain_link = "-"
    checkpoints = sorted(zip(part["seed"], part["checkpoint"], strict=True))
    finetune_links = ", ".join(
        f"[seed {seed}]({_relative(checkpoint, folder)})" for seed, checkpoint in checkpoints
    )
    trained = f"{part['epochs'].max()}"
    if pretrain != "-":
        trained = f"{experiment.pretrain[pretrain].epochs} + {trained}"
    finetuning = float(part["seconds"].mean())
    time = duration(finetuning)
    if pretrain in pretrain_seconds:
        time = f"{duration(pretrain_seconds[pretrain])} + {time}"
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
        trained,
        f"{part['images_per_second'].median():.0f}",
        time,
    ]


def _verdict(
    compared: list[verdict.Comparison], others: list[verdict.Comparison], results: pd.DataFrame
) -> list[str]:
    if not compared:
        return []
    seconds = plan.run_seconds(results)
    lines = ["## Verdict", ""]
    for each in (*compared, *others):
        more = plan.sentence(each, seconds) if each in compared else ""
        lines.append(f"- {verdict.sentence(each)}{' ' * bool(more)}{more}")
    return [
        *lines,
        "",
        *verdict.details([*compared, *others]),
        "",
        "- Verdicts are over seeds, on these images: by the p of the t test"
        + (
            ", after Holm's correction for the comparisons with the baseline; the comparisons "
            "among the other arms are beside the question, and have a correction of their own"
            if others
            else ""
        )
        + ". The interval over seeds and images is by bootstrap, for another draw of both.",
        "- McNemar's test is of these trained models, over images, exact, and pooled over seed "
        "pairs with the image as the unit; mid-p counts half of the observed outcome. Images: mean "
        "over seed pairs.",
        "- How many seeds would resolve which difference, and their cost: [plan.md](plan.md).",
        "",
    ]


def _notes(
    experiment: Experiment, compared: list[verdict.Comparison], results: pd.DataFrame
) -> list[str]:
    base = experiment.baseline
    methods = {each.difference.method for each in compared}
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
    for name in resolve.used_pretrainings(experiment):
        training = experiment.pretrain[name]
        if pretrain_split(training, experiment.dataset) == "pretrain":
            notes.append(
                f"- '{name}' is pretrained on the unlabelled images of "
                f"{experiment.dataset.unlabelled}, not on the training images."
            )
        if isinstance(training, SupervisedPretraining):
            same = [
                other
                for other in resolve.used_pretrainings(experiment)
                if other != name and experiment.pretrain[other].epochs == training.epochs
            ]
            equal = f", as many as '{same[0]}'" if same else ""
            notes.append(
                f"- '{name}' is trained by this pipeline on all labelled training images, "
                f"{epochs(training.epochs)}{equal}: it sees labels that the other arms don't, and "
                "is not torchvision's ImageNet model."
            )
    versions = sorted(set(results["code_version"]))
    if len(versions) == 1:
        notes.append(f"- Code version {versions[0]}.")
    longer = list(resolve.longer_arms(experiment))
    notes += starting_weights(experiment, results)
    return notes + comparability.warnings(results, longer=longer)


def _published(experiment: Experiment) -> list[str]:
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
                both = f"{row['pretrain_epochs']} + {row['finetune_epochs']}"
                lines.append(
                    markdown_row(
                        [
                            str(row["row"]),
                            str(row["top1"]),
                            str(row["dataset"]),
                            str(row["backbone"]),
                            both if row["pretrain_epochs"] else str(row["finetune_epochs"]),
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
