"""Build of the report page: a finished experiment's documents and pictures as one HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from mfm.experiment.layout import Layout
from mfm.experiment.resolve import pictured_pretrainings
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.objectives.picture_files import read_captions
from mfm.reporting import (
    dataset_text,
    details,
    finished,
    published,
    table,
    variants,
)
from mfm.reporting.document import Block, Picture, Section
from mfm.reporting.figures import FIGURES
from mfm.reporting.page import pages, provenance
from mfm.reporting.render_html import inline, to_html
from mfm.settings.section import dumps_ordered


def build(experiment: Experiment, *, checked: int) -> str:
    """The report of an experiment whose results are all there; `checked` files fit together."""
    found, runs = finished.read(experiment), Runs(experiment)
    layout = runs.layout
    studies = [
        variants.Compared(
            runs=runs, study=study, rows=variants.read_rows(layout.variants(study, "csv"))
        )
        for study in runs.studies
    ]
    figures = [
        Picture(layout.relative(layout.figure(name)), caption) for name, caption in FIGURES.items()
    ]
    others, compared = published.sections(experiment), table.compare(found)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mfm.reporting.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=table.title(experiment),
        style=_asset("page.css"),
        script=_asset("page.js"),
        answer=inline(table.opening(found, compared)),
        comparison=_html(
            layout,
            [*table.arms(found, compared), figures[0], *details.sections(found, compared)],
            level=3,
        ),
        published=_html(layout, others, level=4) if others else None,
        figures=_html(layout, figures[1:], level=3),
        pages=[
            {
                "name": page.name,
                "heading": inline(pages.heading(found, page.section)),
                "body": to_html(page.section.blocks, folder=page.folder, level=4),
            }
            for page in pages.gather(found, runs, studies)
        ],
        pretrainings={
            name: _html(layout, _pictures(layout, name, seed), level=4)
            for name, seed in pictured_pretrainings(experiment)
        },
        dataset=_html(layout, [_dataset(layout)], level=3),
        provenance=_html(layout, [_provenance(runs, found, studies, checked)], level=2),
        configuration=yaml.safe_dump(
            json.loads(dumps_ordered(experiment)), sort_keys=False, width=100
        ),
    )


def _html(layout: Layout, blocks: Sequence[Block], *, level: int) -> Markup:
    return to_html(blocks, folder=Path(layout.results), level=level)


def _pictures(layout: Layout, pretraining: str, seed: int) -> list[Picture]:
    folder = Path(layout.pretraining(pretraining, seed).pictures)
    return [
        Picture(layout.relative((folder / f"{name}.png").as_posix()), caption, width=1000)
        for name, caption in read_captions(folder).items()
    ]


def _dataset(layout: Layout) -> Section:
    return dataset_text.document(
        json.loads(Path(layout.file("dataset.json")).read_text(encoding="utf-8"))
    )


def _provenance(
    runs: Runs, found: finished.Finished, studies: Sequence[variants.Compared], checked: int
) -> Section:
    rows = pd.concat([found.results, *(study.rows for study in studies)])
    origins = provenance.pretrainings(runs) + provenance.finetunings(rows, runs.layout)
    return provenance.section(origins, runs.layout, checked=checked)


def _asset(name: str) -> Markup:
    # Files of this package, which go into <style> and <script> as they are.
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
