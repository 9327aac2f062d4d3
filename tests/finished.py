"""A small finished experiment: the files that its runs would have left, made up."""

from pathlib import Path

import numpy as np
import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting.figures.draw import draw_all
from mfm.reporting.page.build import RECONSTRUCTIONS
from mfm.settings.section import parse

CLASSES = ("a", "b <i>", "c")
HASH = "0123456789ab"
EXPERIMENT = {
    "seeds": [0, 1, 2],
    "dataset": {"name": "own", "source": "generated"},
    "pretrain": {"p": {"task": "mfm", "epochs": 2}},
    "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}},
    "finetune": {"epochs": 3},
}
TABLE = """# resnet18 on own: which initialisation?

## Measured here

| initialisation | top-1 (%) | training time |
| --- | --- | --- |
| scratch | **9.50** | 2.6 min + 27 s |
| mfm | **60.25** | - |
| supervised | **10.00** | 1.2 h |

- A note with a link, https://example.org/page, and <script>no script</script>.

## Verdict

- **mfm is better.**

## Published by upstream (not comparable)

| initialisation | source |
| --- | --- |
| scratch | https://example.org |
"""


def experiment(folder: Path) -> Experiment:
    values = {**EXPERIMENT, "results": str(folder)}
    return parse(Experiment, values, where="test")


def finish(folder: Path) -> Experiment:
    """Everything that figures and report read, with random predictions."""
    ours = experiment(folder)
    draws = np.random.default_rng(0)
    rows = []
    for init, seed in resolve.finetunings(ours):
        labels = np.repeat(CLASSES, 10)
        predictions = np.where(draws.random(30) < 0.6, labels, draws.choice(CLASSES, 30))
        images = pd.DataFrame({"label": labels, "prediction": predictions})
        images["correct"] = images["label"] == images["prediction"]
        (folder / f"evaluate/{init}").mkdir(parents=True, exist_ok=True)
        images.to_parquet(folder / f"evaluate/{init}/seed{seed}.parquet")
        run = f"finetune/{init}/seed{seed}"
        write_metrics(folder / run, [2.0, 1.0, 0.5 + 0.1 * seed])
        (folder / run / "config.json").write_text("{}")
        (folder / f"logs/{run}.log").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"logs/{run}.log").write_text("")
        row = {"init": init, "seed": seed, "top1": 100 * images["correct"].mean()}
        row |= {"seconds": 90.0, "code_version": "v", "config_hash": HASH}
        rows.append(row | {"checkpoint": str(folder / run / "model.safetensors")})
    results = pd.DataFrame(rows)
    results.to_csv(folder / "results.csv", index=False)
    write_metrics(folder / "pretrain/p", [3.0, 2.0])
    losses = "epoch,low,high\n0.0,3.0,4.0\n2.0,2.0,1.5\n"
    (folder / "pretrain/p/fixed_images.csv").write_text(losses)
    for name in RECONSTRUCTIONS:
        style.save(style.nothing(name), folder / f"pretrain/p/{name}.png")
    draw_all(ours, results, folder / "figures")
    (folder / "table.md").write_text(TABLE)
    (folder / "plan.md").write_text("# How many seeds?\n\nTwelve.\n")
    (folder / "dataset.md").write_text("# The images\n\nThere are 30.\n")
    return ours


def write_metrics(run: Path, losses: list[float]) -> None:
    run.mkdir(parents=True)
    table = pd.DataFrame({"epoch": range(1, len(losses) + 1), "loss": losses, "seconds": 2.0})
    table.to_csv(run / "metrics.csv", index=False)
