"""A small finished experiment: the files that its runs would have left, made up."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mfm.data.pictures.headers import content_of
from mfm.evaluation import further_evaluations
from mfm.evaluation.classifier import Predictions, save_predictions
from mfm.experiment import resolve
from mfm.experiment.layout import Layout, dataset_folder
from mfm.experiment.question import Declaration, declare
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.files import style
from mfm.objectives.picture_files import LIST
from mfm.reporting import metrics
from mfm.reporting.figures.draw import draw_all
from mfm.reporting.figures.further import draw_further
from mfm.reporting.figures.metrics import draw_metrics
from mfm.reporting.figures.variants import draw_study
from mfm.reporting.finished import Finished
from mfm.reporting.gallery import build as gallery
from mfm.reporting.gallery import content
from mfm.reporting.variants import Compared
from mfm.settings.section import parse

# Names of classes and files are text, whatever they look like.
CLASSES = ("a|b", "b <i>", "**c** <script>no script</script>")
HASH = "0123456789ab"
EXPERIMENT = {
    "seeds": [0, 1, 2],
    "dataset": {"name": "own", "source": "generated"},
    "pretrain": {"p": {"task": "mfm", "epochs": 2}},
    "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}},
    "question": {"arm": "mfm", "baseline": "scratch"},
    "finetune": {"epochs": 3},
}
CAPTIONS = {"epochs": "As the training <goes> on.", "spectra": "Log spectra."}


def experiment(folder: Path, **more) -> Experiment:
    values = {**EXPERIMENT, "results": str(folder), **more}
    return parse(Experiment, values, where="test")


def finish(folder: Path) -> Experiment:
    """Everything that figures and report read, with random predictions."""
    ours = experiment(folder)
    layout, results = Layout(ours.results), finish_runs(ours)
    declare(
        Path(layout.question),
        Declaration(declared="2026-11-26 18:00", finished=0, **resolve.asked(ours)),
    )
    pretraining = layout.pretraining("p", 0)
    write_metrics(Path(pretraining.folder), [3.0, 2.0])
    pictures = Path(pretraining.pictures)
    pictures.mkdir()
    kept_losses().to_csv(layout.losses, index=False)
    (pictures / LIST).write_text(json.dumps(CAPTIONS))
    for name in CAPTIONS:
        style.save(style.nothing(name), pictures / f"{name}.png")
    summary = Path(dataset_folder("own"), "summary.json")
    summary.parent.mkdir(parents=True, exist_ok=True)
    splits = {"train": {"images": 60}, "val": {"images": 30}}
    told = {"classes": CLASSES, "splits": splits, "overlap": {}, "left_out": {}}
    summary.write_text(json.dumps(told))
    draw_all(ours, results, folder / "figures")
    write_metrics_of(ours, results)
    Path(layout.file("dataset.json")).write_text(json.dumps(dataset_facts()))
    finish_gallery(ours, results)
    return ours


def finish_runs(ours: Experiment) -> pd.DataFrame:
    """The finetunings with their predictions, and results.csv."""
    layout, draws = Layout(ours.results), np.random.default_rng(0)
    rows = [_finetuned(layout, arm, seed, draws) for arm, seed in resolve.finetunings(ours)]
    results = pd.DataFrame(rows)
    results.to_csv(layout.rows, index=False)
    return results


@dataclass
class _Images:
    """What is saved of images."""

    paths: list[str]
    classes: tuple[str, ...]
    groups: None = None


def made_up(labels, chosen, draws: np.random.Generator, classes: int = 3) -> Predictions:
    """Predictions of the chosen classes, with probabilities that have them as the largest."""
    labels, rows = np.array(labels), np.arange(len(labels))
    every = draws.dirichlet(np.ones(classes), len(labels))
    best = every.argmax(axis=1)
    every[rows, best], every[rows, chosen] = every[rows, chosen], every[rows, best]
    of_label = every[rows, labels]
    return Predictions(
        labels=labels,
        predictions=chosen,
        probabilities=of_label,
        ranks=(every > of_label[:, None]).sum(axis=1),
        losses=-np.log(of_label),
        all_probabilities=every.astype(np.float32),
    )


def finish_gallery(ours: Experiment, results: pd.DataFrame) -> None:
    """The evaluated images: one that is in every place, and what the rule gallery leaves."""
    root = Path(dataset_folder("own"))
    paths = [f"{number}.png" for number in range(30)]
    for path in paths:
        Image.new("RGB", (8, 8), "orange").save(root / path)
    number = content_of((root / paths[0]).read_bytes())
    rows = {"split": ["val"] * 30, "path": paths, "label": np.repeat(range(3), 10)}
    rows |= {"class": np.repeat(CLASSES, 10), "width": [8] * 30, "height": [8] * 30}
    rows |= {"content": np.full(30, number, np.uint64)}
    pd.DataFrame(rows).to_parquet(root / "manifest.parquet")
    found = gallery.build(ours, results, root / "manifest.parquet")
    content.save(found, Path(Layout(ours.results).file(content.NAME)))


def _finetuned(layout: Layout, arm: str, seed: int, draws: np.random.Generator) -> dict:
    labels = np.repeat(CLASSES, 10)
    predictions = np.where(draws.random(30) < 0.6, labels, draws.choice(CLASSES, 30))
    right = labels == predictions
    chosen = np.array([CLASSES.index(name) for name in predictions])
    images = _Images(paths=[f"{n}.png" for n in range(30)], classes=CLASSES)
    found = made_up([CLASSES.index(name) for name in labels], chosen, draws)
    files = layout.evaluation(arm, seed)
    save_predictions(found, images, Path(files.predictions), {})
    run = layout.finetuning(arm, seed)
    write_metrics(Path(run.folder), [2.0, 1.0, 0.5 + 0.1 * seed])
    Path(run.config).write_text("{}")
    Path(run.log).parent.mkdir(parents=True, exist_ok=True)
    Path(run.log).write_text("")
    before = ("p", "0") if arm == "mfm" else ("-", "-")
    row = {"arm": arm, "pretraining": before[0], "pretraining_seed": before[1], "seed": seed}
    row |= {"top1": 100 * right.mean(), "images": 30, "epochs": 3}
    row |= {"train_images": 60, "images_per_second": 500.0, "seconds": 90.0}
    return row | {"code_version": "v", "config_hash": HASH, "checkpoint": run.weights}


# Planted comparisons: only what the table reads, and no files.

GAINS = (0.9, 1.1, 1.0, 1.2, 0.8, 1.05, 0.95, 1.0)  # of eight seeds: clear, by both tests
PLANTED = {
    "pretrain": {
        "masked": {"task": "mfm", "epochs": 4, "batch": 100},
        "labels": {"task": "supervised", "epochs": 4, "batch": 100},
    },
    "question": {"arm": "mfm", "baseline": "scratch"},
    "finetune": {"epochs": 30, "batch": 50},
}
SHARED = (80.0, 81.4, 79.2, 80.7, 82.1, 78.8, 80.3, 81.0)  # what a seed does to every arm


def plant(
    gains: dict[str, tuple[float, ...] | list[float]],
    *,
    pretrainings: int = 1,
    arms: dict[str, object] | None = None,
    **more,
) -> tuple[Experiment, pd.DataFrame]:
    """An experiment and its rows: an arm's gains over what each seed gives, by its name.

    'mfm' starts from so many pretrainings, 'supervised' from one; 'scratch-long' makes up for mfm.
    """
    known = {
        "mfm": {"pretrain": "masked"},
        "supervised": {"pretrain": "labels"},
        "scratch-long": {"as_long_as": "mfm"},
    }
    seeds = list(range(max(len(each) for each in gains.values())))
    named = {
        arm: its if its == "scratch" or len(gains[arm]) == len(seeds)
        else {**its, "seeds": seeds[: len(gains[arm])]}
        for arm, its in ((arm, (arms or {}).get(arm, known.get(arm, "scratch"))) for arm in gains)
    }  # fmt: skip
    pretrain = json.loads(json.dumps(PLANTED["pretrain"]))
    pretrain["masked"]["seeds"] = list(range(pretrainings))
    values = {**PLANTED, "pretrain": pretrain, "seeds": seeds, "arms": named, **more}
    ours = parse(Experiment, values, where="test")
    rows = [
        planted_row(ours, arm, seed, round(SHARED[seed] + gain, 2))
        for arm, each in gains.items()
        for seed, gain in enumerate(each)
    ]
    return ours, pd.DataFrame(rows)


def planted_row(ours: Experiment, arm: str, seed: int, top1: float) -> dict:
    start = resolve.pretraining_seed(ours, arm, seed)
    row = {"arm": arm, "pretraining": resolve.pretraining_of(ours, arm) or "-"}
    row |= {"pretraining_seed": "-" if start is None else str(start), "seed": seed, "top1": top1}
    row |= {"images": 10000, "epochs": 300 if arm == "scratch-long" else 30, "train_images": 250}
    row |= {"images_per_second": 901.0, "seconds": 130.0 if arm == "scratch-long" else 20.0}
    checkpoint = Layout(ours.results).finetuning(arm, seed).weights
    return row | {"code_version": "1.0+a", "config_hash": HASH, "checkpoint": checkpoint}


def planted(gains: dict, *, declared: dict | None = None, finished: int = 0, **more) -> Finished:
    """What the table reads of a planted experiment, with its declaration, or another one."""
    facts = {
        key: more.pop(key) for key in ("looks", "frozen", "declarations", "losses") if key in more
    }
    ours, rows = plant(gains, **more)
    if ours.question is not None and "declarations" not in facts:
        asks = {**resolve.asked(ours), **(declared or {})}
        one = Declaration(declared="2026-11-26 18:00", finished=finished, **asks)
        facts["declarations"] = [one]
    pretrained = {"masked": 110.0, "labels": 100.0}
    return Finished(
        experiment=ours,
        results=rows,
        pretrain_seconds={
            name: dict.fromkeys(ours.pretrain[name].seeds, pretrained[name])
            for name in resolve.used_pretrainings(ours)
        },
        summary={
            "classes": list("abcdefghij"),
            "splits": {"train": {"images": 60000}, "pretrain": {"images": 9000}},
            "overlap": {},
            "left_out": {},
        },
        **facts,
    )


def write_metrics_of(ours: Experiment, results: pd.DataFrame) -> None:
    """What the rule metrics leaves for the report."""
    layout = Layout(ours.results)
    values, recalls = metrics.collect(ours, results)
    values.to_csv(layout.file("metrics.csv"), index=False)
    recalls.to_csv(layout.file("metrics_classes.csv"), index=False)
    style.save(draw_metrics(metrics.read(ours, results)), Path(layout.figure("metrics")))


def finish_others(ours: Experiment) -> None:
    """What the pages of studies and of further evaluations are made of; own runs are shared."""
    runs = Runs(ours)
    rows = pd.read_csv(runs.layout.rows, dtype={"config_hash": str})
    for study, variants in runs.studies.items():
        parts = [
            rows.assign(value=variant.name, own=variant.own, top1=rows["top1"] - number)
            for number, variant in enumerate(variants)
        ]
        table = pd.concat(parts, ignore_index=True)
        path = Path(runs.layout.variants(study, "csv"))
        path.parent.mkdir(exist_ok=True)
        table.to_csv(path, index=False)
        figure = draw_study(Compared(runs=runs, study=study, rows=table))
        style.save(figure, Path(runs.layout.variants(study, "svg")))
    for name, settings in further_evaluations(ours.evaluate).items():
        measured = {measure.name: rows["top1"] / 2 for measure in settings.measures()}
        table = rows[["arm", "seed"]].assign(**measured)
        table.to_csv(runs.layout.file(f"{settings.page or name}.csv"), index=False)
        for figure in settings.figures():
            drawn = draw_further(ours, figure, table)
            style.save(drawn, Path(runs.layout.figure(figure)))


def dataset_facts() -> dict:
    """A report on 30 images, as `mfm.reporting.dataset` describes them."""
    spread = {"min": 10, "1%": 10.0, "median": 10.0, "99%": 10.0, "max": 10}
    split = {"images": 30, "bytes": 3000, "width": spread, "height": spread, "smaller": 0}
    split |= {"modes": {"RGB": 30}, "formats": {"PNG": 30}}
    split["classes"] = {
        "number": 3,
        "per_class": spread | {"max": 11},
        "smallest": dict.fromkeys(CLASSES, 10),
        "largest": dict.fromkeys(CLASSES, 10),
        "largest_share": 1 / 3,
    }
    values = {"mean": [0.5] * 3, "std": [0.2] * 3}
    said = {
        "title": "masked frequency modeling",
        "size": 32,
        "constants": {"radius": "2.29"},
        "shares": {"energy inside the radius": 0.739, "without the mean": None},
        "note": "Energy: of the target.",
    }
    return {
        "name": "own",
        "source": "generated",
        "image_size": 32,
        "on_bad_image": "skip",
        "splits": {"train": split, "val": split},
        "misnamed": {"number": 0, "listed": []},
        "identical": {
            "groups": {"number": 1, "listed": [["train/[a](b)/0.png", "val/<b>/1.png"]]},
            "copies_in_train": 0,
            "contradicting_in_train": 0,
            "across": {"val in train": 1},
        },
        "left_out": {
            "kinds": {"not an image": 1},
            "number": 1,
            "listed": [{"path": "# train/x.txt", "kind": "not an image", "reason": "a\nb"}],
        },
        "normalisations": {"finetune": values},
        "sample": {
            "train": values | {"images": 30, "rotated_by_exif": 0, "pretrainings": {"p": said}}
        },
    }


def kept_losses(pretraining: str = "p", last: tuple[float, float] = (2.0, 1.5)) -> pd.DataFrame:
    """losses.csv of a run whose two losses fall to `last`, beside constants of 2.1 and 4."""
    columns = ["pretraining", "seed", "loss", "epoch", "value", "constant", "predicted"]
    rows = [
        (pretraining, 0, loss, epoch, value, constant, predicted)
        for loss, constant, predicted, values in (
            ("low", 2.1, "zero", (3.0, last[0])),
            ("high", 4.0, "mean", (4.5, last[1])),
        )
        for epoch, value in zip((0.0, 2.0), values, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def write_metrics(run: Path, losses: list[float]) -> None:
    run.mkdir(parents=True)
    table = pd.DataFrame({"epoch": range(1, len(losses) + 1), "loss": losses, "seconds": 2.0})
    table.to_csv(run / "metrics.csv", index=False)
