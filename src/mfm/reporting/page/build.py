"""Gather what a finished experiment left and render it as one HTML file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from mfm.commands.watch import duration
from mfm.experiment import ablations, resolve
from mfm.experiment.settings import Experiment
from mfm.reporting.figures import FIGURES, RESIZE
from mfm.reporting.page import provenance
from mfm.reporting.page.markdown import data_uri, to_html
from mfm.settings.section import dumps_ordered

RECONSTRUCTIONS = {
    "epochs": "The input's band, completed by what the model predicts of the removed one, as the "
    "training goes on. If pretraining works, these come nearer to the target from left to right.",
    "reconstructions": "What the trained model is given and what it predicts. The loss counts the "
    "removed frequencies only: the raw prediction is arbitrary on the others, so beside it the "
    "input's own band is put in.",
    "spectra": "Log spectra of the same pictures. Inside the circle lies what a low-pass input "
    "keeps and a high-pass input has lost. (The paper's recipe clamps its inputs to the range of "
    "pixels, which puts a little back.)",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its caption."""

    name: str
    address: str  # data:
    caption: str
    width: int  # pixels on the page, where there is room


def build(experiment: Experiment, folder: Path) -> str:
    """The report of the experiment whose results are in `folder`."""
    results = pd.read_csv(folder / "results.csv", dtype={"config_hash": str})
    origins = provenance.finetunings(results, folder)
    if experiment.label_efficiency:
        more = pd.read_csv(folder / "label_efficiency.csv", dtype={"config_hash": str})
        known = {origin.run for origin in origins}
        found = provenance.finetunings(more, folder)
        origins += [origin for origin in found if origin.run not in known]
    origins = provenance.pretrainings(experiment, folder) + origins
    table, published = _split((folder / "table.md").read_text())
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mfm.report.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment.get_template("page.html.j2").render(
        title=f"{experiment.model.backbone} on {experiment.dataset.name}: which initialisation?",
        style=_asset("page.css"),
        script=_asset("page.js"),
        table=to_html(table, folder=folder),
        published=to_html(published, folder=folder, deeper=2) if published else None,
        figures=[
            _picture(folder / f"figures/{name}.svg", caption) for name, caption in FIGURES.items()
        ]
        + [
            _picture(folder / "figures/val_resize.svg", RESIZE)
            for name in ablations.asked(experiment)
            if name == "val_resize"
        ],
        pages=[
            to_html(path.read_text(), folder=folder, deeper=2)
            for path in _further_pages(experiment, folder)
        ],
        pretrainings={
            name: [
                _picture(folder / f"pretrain/{name}/{figure}.png", caption)
                for figure, caption in RECONSTRUCTIONS.items()
            ]
            for name in resolve.drawn_pretrainings(experiment)
        },
        dataset=to_html((folder / "dataset.md").read_text(), folder=folder, deeper=2),
        origins=origins,
        code_version=provenance.shared(origins, "code_version"),
        hardware=provenance.shared(origins, "hardware"),
        configuration=yaml.safe_dump(
            json.loads(dumps_ordered(experiment)), sort_keys=False, width=100
        ),
    )


def _further_pages(experiment: Experiment, folder: Path) -> list[Path]:
    """The Markdown pages beside the table."""
    names = ["label_efficiency"] if experiment.label_efficiency else []
    names += [f"ablation_{name}" for name in ablations.asked(experiment)]
    return [folder / f"{name}.md" for name in (*names, "plan")]


def _split(table: str) -> tuple[str, str]:
    """The measured part of table.md, its verdict first, and the published figures."""
    intro, *sections = re.split(r"^(?=## )", re.sub(r"\A# .*\n", "", table), flags=re.M)
    published = [part for part in sections if part.startswith("## Published")]
    measured = [part for part in sections if part not in published]
    measured.sort(key=lambda part: not part.startswith("## Verdict"))
    return "".join([intro, *measured]), "".join(published)


def _picture(path: Path, caption: str) -> Picture:
    return Picture(
        name=f"{path.parent.name}-{path.stem}",
        address=data_uri(path),
        caption=caption,
        width=1000 if path.suffix == ".png" else 760,
    )


def _asset(name: str) -> Markup:
    # Files of this package, which go into <style> and <script> as they are.
    return Markup((Path(__file__).parent / name).read_text())
