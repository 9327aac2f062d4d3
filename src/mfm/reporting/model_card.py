"""The model card beside exported weights."""

from __future__ import annotations

from mfm.experiment.jobs import FinetuneJob, PretrainJob
from mfm.experiment.pretrain import create_task
from mfm.models.backbones import has_fixed_size
from mfm.models.interchange import Network
from mfm.objectives.mfm.settings import MfmPretraining
from mfm.objectives.mfm.task import normalisation
from mfm.objectives.supervised.settings import SupervisedPretraining
from mfm.settings.section import Triple
from mfm.statistics.over_seeds import estimate
from mfm.training import optimizers
from mfm.training.run import crop_size

Run = PretrainJob | FinetuneJob
_UNKNOWN = "not known here: no results.csv has rows of it"


def render_card(
    run: Run,
    metadata: dict[str, str],
    network: Network,
    *,
    target: str,
    checksum: str,
    rows: list[dict[str, str]],
    new_classifier: bool,
) -> str:
    """The model card, in Markdown."""
    training, dataset = run.training, run.dataset
    facts = [
        ("weights", f"model.safetensors, SHA-256 {checksum}"),
        ("network", f"{network.model.backbone}, {_classifier(network, new_classifier)}"),
        ("recipe", _recipe(run)),
        ("data", f"{dataset.name} (source: {dataset.source}){_labels(metadata)}"),
        (
            "images in training",
            f"{crop_size(run)} px, random resized crops of {training.crop.area}",
        ),
        ("epochs", f"{training.epochs}, batch {training.batch}"),
        ("optimizer", f"{training.optimizer.name}, {optimizers.describe_rates(training)}"),
        ("seed of this file", metadata["seed"]),
        ("top-1", _top1(run, metadata, rows)),
        ("code version", f"mfm {metadata['code_version']}, torch {metadata['torch']}"),
        ("configuration", f"hash {metadata['config_hash']}"),
    ]
    if isinstance(run, FinetuneJob):
        facts.insert(3, ("initialisation", metadata["initialised"]))
    mean, std = _normalisation(run)
    lines = [
        f"# {network.model.backbone}, {run.stage} run "
        f"'{run.init if isinstance(run, FinetuneJob) else run.name}' on {dataset.name}",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value.replace('|', '/')} |" for name, value in facts),
        "",
        f"Images in [0, 1] were normalised with mean {list(mean)} and standard deviation "
        f"{list(std)}.",
        "",
        "```python",
        *_usage(network, target),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _classifier(network: Network, new: bool) -> str:
    if new:
        return f"with a classifier of zeros for {network.classes} classes, to be trained"
    return f"{network.classes} classes" if network.classes else "without a classifier"


def _recipe(run: Run) -> str:
    if isinstance(run, FinetuneJob):
        return f"finetuning with {run.training.loss}, arm '{run.init}'"
    if isinstance(run.training, SupervisedPretraining):
        return f"supervised pretraining with {run.training.loss}"
    task = create_task(run)
    return (
        f"masked frequency modeling, recipe '{task.recipe}', radius {task.radius:.3g}, low-pass "
        f"share {task.low_pass_share:g}"
    )


def _normalisation(run: Run) -> tuple[Triple, Triple]:
    if isinstance(run.training, MfmPretraining):
        return normalisation(run.training.recipe)
    return run.training.mean, run.training.std


def _labels(metadata: dict[str, str]) -> str:
    images = metadata.get("train_images")
    return f", {int(images):,} labelled images" if images else ""


def _top1(run: Run, metadata: dict[str, str], rows: list[dict[str, str]]) -> str:
    """Accuracy of the arm that was finetuned, or of the arms that start from the pretraining."""
    if isinstance(run, FinetuneJob):
        if metadata["config_hash"] not in {row["config_hash"] for row in rows}:
            rows = []  # of the same arm, but with another amount of labels, or from another time
        found = _by_arm(rows, key="init", name=run.init)
        return (
            "; ".join(
                f"{_estimate(values)}; this file {values[str(run.seed)]:.2f} %"
                for values in found.values()
            )
            or _UNKNOWN
        )
    found = _by_arm(rows, key="pretrain", name=run.name)
    return (
        "; ".join(
            f"{_estimate(values)}, after finetuning as arm '{arm}'" for arm, values in found.items()
        )
        or _UNKNOWN
    )


def _by_arm(rows: list[dict[str, str]], *, key: str, name: str) -> dict[str, dict[str, float]]:
    """{arm: {seed: top-1}} of the rows with that value."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row[key] == name:
            found.setdefault(row["init"], {})[row["seed"]] = float(row["top1"])
    return found


def _estimate(values: dict[str, float]) -> str:
    found = estimate(list(values.values()))
    seeds = f"{found.n} seed{'s' * (found.n > 1)}"
    if found.low is None or found.high is None:
        return f"{found.mean:.2f} %, {seeds}"
    return f"{found.mean:.2f} %, mean of {seeds}, 95% interval {found.low:.2f} to {found.high:.2f}"


def _usage(network: Network, target: str) -> list[str]:
    name, classes = network.model.backbone, network.classes
    if target == "torchvision":
        lines = ["import torch, torchvision", "from safetensors.torch import load_file", ""]
        lines.append(f"model = torchvision.models.{name}(num_classes={classes or 1000})")
        if not classes:
            lines.append("model.fc = torch.nn.Identity()")
    else:
        options = f"num_classes={classes}"
        if network.model.pooling == "mean" and classes:
            options += ", global_pool='avg'"
        if network.image_size is not None and has_fixed_size(name):
            options += f", img_size={network.image_size}"
        lines = ["import timm", "from safetensors.torch import load_file", ""]
        lines.append(f"model = timm.create_model('{name}', {options})")
    return [*lines, "model.load_state_dict(load_file('model.safetensors'), strict=True)"]
