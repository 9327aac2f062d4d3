"""Model card beside exported weights."""

from __future__ import annotations

import pandas as pd

from mfm.experiment.jobs import FinetuneJob, PretrainJob
from mfm.models.interchange import Network
from mfm.numerics.pixels import per_channel
from mfm.reporting.document import Column, Listing, Paragraph, Section, Table
from mfm.statistics.over_seeds import estimate
from mfm.statistics.units import Sample
from mfm.training import optimizers

Run = PretrainJob | FinetuneJob
_UNKNOWN = "not known here: no results.csv has rows of it"


def card(
    run: Run,
    metadata: dict[str, str],
    network: Network,
    *,
    target: str,
    checksum: str,
    rows: pd.DataFrame | None,
    new_classifier: bool,
) -> Section:
    """The model card; `rows` are those of results.csv, None where there is none."""
    training, dataset = run.training, run.dataset
    arm = f", arm '{run.arm}'" if isinstance(run, FinetuneJob) else ""
    facts = [
        ("weights", f"model.safetensors, SHA-256 {checksum}"),
        ("network", f"{network.model.title}, {_head(run, network, new_classifier)}"),
        ("recipe", f"{training.describe(model=run.model, size=run.size)}{arm}"),
        ("data", f"{dataset.name}{_labels(metadata)}"),
        ("images in training", f"{run.size} px, random resized crops of {training.crop.area}"),
        ("epochs", f"{training.epochs}, batch {training.batch}"),
        ("optimizer", f"{training.optimizer.name}, {optimizers.describe_rates(training)}"),
        ("seed of this file", metadata["seed"]),
        ("top-1", _top1(run, metadata, rows)),
        ("code version", f"mfm {metadata['code_version']}, torch {metadata['torch']}"),
        ("configuration", f"hash {metadata['config_hash']}"),
    ]
    if isinstance(run, FinetuneJob):
        facts.insert(3, ("initial weights", metadata["initialised"]))
    if "images_read" in metadata:
        facts.insert(-6, ("images as they were read", metadata["images_read"]))
    mean, std = (per_channel(each, run.model.channels) for each in training.normalisation())
    columns: list[Column[tuple[str, str]]] = [
        Column("", lambda fact: fact[0]),
        Column("", lambda fact: fact[1]),
    ]
    return Section(
        f"{network.model.backbone}, {run.stage} run '{run.title}' on {dataset.name}",
        [
            Table(columns, facts),
            Paragraph(
                f"Images in [0, 1] were normalised with mean {list(mean)} and standard deviation "
                f"{list(std)}."
            ),
            *[Paragraph(note) for note in [network.note] if note],
            Listing("\n".join(_usage(network, target)), "python"),
        ],
    )


def _head(run: Run, network: Network, new: bool) -> str:
    if new:
        return f"with a classifier of zeros for {network.classes} classes, to be trained"
    if not network.classes:
        return "without a classifier"
    if isinstance(run, PretrainJob) and not run.training.labelled:
        return f"with this pretraining's own head: its {network.classes} outputs are no classes"
    return f"{network.classes} classes"


def _labels(metadata: dict[str, str]) -> str:
    images = metadata.get("train_images")
    return f", {int(images):,} labelled images" if images else ""


def _top1(run: Run, metadata: dict[str, str], rows: pd.DataFrame | None) -> str:
    """Accuracy of the arm that was finetuned, or of the arms that start from the pretraining."""
    if rows is None:
        return _UNKNOWN
    if isinstance(run, PretrainJob):
        of_this = rows["pretraining_seed"] == str(run.seed)
        started = rows[(rows["pretraining"] == run.name) & of_this]
        told = [
            f"{_estimate(part)}, after finetuning as arm '{arm}'"
            for arm, part in started.groupby("arm", sort=False)
        ]
        return "; ".join(told) or _UNKNOWN
    own = rows[(rows["arm"] == run.arm) & (rows["seed"] == run.seed)]
    if own.empty or metadata["config_hash"] not in set(rows["config_hash"]):
        return _UNKNOWN  # of the same arm, but with another amount of labels, or of another time
    return (
        f"{_estimate(rows[rows['arm'] == run.arm])}; this file {float(own['top1'].iloc[0]):.2f} %"
    )


def _estimate(rows: pd.DataFrame) -> str:
    starts = dict(zip(rows["seed"], rows["pretraining_seed"], strict=True))
    pretrained = bool((rows["pretraining"] != "-").any())
    values = dict(zip(rows["seed"], rows["top1"], strict=True))
    found = estimate(Sample(values=values, pretrainings=starts if pretrained else None))
    of = f"{found.n} seed{'s' * (found.n > 1)}"
    if pretrained:
        count = len(set(starts.values()))
        of += f" from {count} pretraining{'s' * (count > 1)}"
    if found.low is None or found.high is None:
        return f"{found.mean:.2f} %, {of}"
    return f"{found.mean:.2f} %, mean of {of}, 95% interval {found.low:.2f} to {found.high:.2f}"


def _stem(network: Network) -> str:
    """The line that gives timm's ResNet the stem of `mfm.models.backbones.with_stem`."""
    if network.model.stem_stride == 2:
        return "model.maxpool = torch.nn.Identity()"
    channels = f"{network.model.channels}, model.conv1.out_channels"
    conv = f"torch.nn.Conv2d({channels}, 3, padding=1, bias=False)"
    return f"model.conv1, model.maxpool = {conv}, torch.nn.Identity()"


def _usage(network: Network, target: str) -> list[str]:
    name, classes = network.model.backbone, network.classes
    if target == "torchvision":
        lines = ["import torch, torchvision", "from safetensors.torch import load_file", ""]
        lines.append(f"model = torchvision.models.{name}(num_classes={classes or 1000})")
        if not classes:
            lines.append("model.fc = torch.nn.Identity()")
    else:
        options = ", ".join(f"{key}={value!r}" for key, value in network.options().items())
        lines = ["import timm", "from safetensors.torch import load_file", ""]
        lines.append(f"model = timm.create_model('{name}', {options})")
        if network.model.stem_stride != 4:
            lines.insert(1, "import torch")
            lines.append(_stem(network))
    return [*lines, "model.load_state_dict(load_file('model.safetensors'), strict=True)"]
