"""Build of the report page: a finished experiment's documents and pictures as one HTML file."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup, escape

from mfm.experiment.layout import Layout
from mfm.experiment.resolve import pictured_pretrainings, used_pretrainings
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.files import style
from mfm.objectives.picture_files import read_captions
from mfm.reporting import dataset_text, details, finished, published, table, variants
from mfm.reporting.document import Block, Listing, Paragraph, Picture, Section
from mfm.reporting.figures import FIGURES
from mfm.reporting.gallery import content as gallery
from mfm.reporting.page import glossary, opening, pages, provenance
from mfm.reporting.page.templates import environment
from mfm.reporting.render_html import inline, to_html
from mfm.reporting.verdict import Comparison
from mfm.settings.section import dumps_ordered


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A part of the page that is closed at first."""

    name: str
    heading: Markup
    body: Markup


@dataclass(frozen=True, kw_only=True)
class _Report:
    """What the page is made of."""

    experiment: Experiment
    found: finished.Finished
    compared: Sequence[Comparison]
    runs: Runs
    studies: Sequence[variants.Compared]
    checked: int

    @property
    def layout(self) -> Layout:
        return self.runs.layout

    def html(self, blocks: Sequence[Block], *, level: int = 3) -> Markup:
        return to_html(blocks, folder=Path(self.layout.results), level=level)

    def fold(self, name: str, section: Section) -> Fold:
        return Fold(
            name=name, heading=inline(section.title), body=self.html(section.blocks, level=4)
        )


def build(experiment: Experiment, *, checked: int) -> str:
    """The report of an experiment whose results are all there; `checked` files fit together."""
    found, runs = finished.read(experiment), Runs(experiment)
    report = _Report(
        experiment=experiment,
        found=found,
        compared=table.compare(found),
        runs=runs,
        studies=[
            variants.Compared(
                runs=runs,
                study=study,
                rows=variants.read_rows(runs.layout.variants(study, "csv")),
            )
            for study in runs.studies
        ],
        checked=checked,
    )
    script = _asset("page.js") + _asset("gallery.js") + _asset("folds.js") + _asset("figures.js")
    measured = [arm for arm in experiment.arms if (found.results["arm"] == arm).any()]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=table.title(experiment),
            style=_asset("page.css")
            + _asset("figures.css")
            + _asset("opening.css")
            + _asset("gallery.css"),
            script=script,
            script_sum=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            colours={arm: colour for arm, (colour, _) in style.looks(measured).items()},
            sentence=inline(opening.sentence(found, report.compared)),
            picture=report.html(_figures(report.layout, ["answer"]) if report.compared else []),
            numbers=[
                {
                    "name": inline(each.name),
                    "value": each.value,
                    "unit": inline(each.unit),
                    "note": inline(each.note),
                }
                for each in opening.numbers(found, report.compared)
            ],
            remarks=inline(opening.remarks(found, report.compared)),
            arms=report.html(opening.arms(found, report.compared)),
            folds=list(_folds(report)),
            words={glossary.place(word): (word, said) for word, said in glossary.WORDS.items()},
        )
    )


def _folds(report: _Report) -> Iterator[Fold]:
    """What stands below the answer, in the order of what a reader asks next."""
    found, compared, layout = report.found, report.compared, report.layout
    if (images := gallery.load(Path(layout.file(gallery.NAME)))).parts:
        one = compared[0]
        yield Fold(
            name="gallery",
            heading=escape(f"Images that only {one.arm} or only {one.other} gets right"),
            body=Markup(environment().get_template("gallery.html.j2").render(gallery=images)),
        )
    names = [name for name in FIGURES if name != "answer"]
    if len(compared) < 2:
        names.remove("difference")  # it is the answer's
    yield report.fold("figures", Section("Figures", _figures(layout, names)))
    for page in pages.gather(found, report.runs, report.studies):
        yield Fold(
            name=f"page-{page.name}",
            heading=inline(pages.heading(found, page.section)),
            body=to_html(page.section.blocks, folder=page.folder, level=4),
        )
    pictured = [
        Section(name, _pictures(report.experiment, layout, name))
        for name in used_pretrainings(report.experiment)
    ]
    if pictured:
        yield report.fold("pretraining", Section("Does pretraining learn anything?", pictured))
    others = [
        *opening.more(found, compared),
        *details.sections(found, compared, once=True),
    ]
    for number, section in enumerate(others, 1):
        yield report.fold(f"detail-{number}", section)
    if reference := published.sections(report.experiment):
        yield report.fold("published", Section("Published figures, for reference", reference))
    yield report.fold("images", Section("The dataset", [_dataset(layout)]))
    yield report.fold("provenance", _provenance(report))
    yield report.fold("configuration", _configuration(report.experiment))


def _figures(layout: Layout, names: Sequence[str]) -> list[Picture]:
    return [Picture(layout.relative(layout.figure(name)), FIGURES[name]) for name in names]


def _pictures(experiment: Experiment, layout: Layout, name: str) -> list[Block]:
    """What the pretraining's first run shows, or why it shows nothing."""
    training, first = experiment.pretrain[name], dict(pictured_pretrainings(experiment))
    if name not in first:
        why = "it was asked for no pictures (reconstructions: 0)"
        if not training.predicts_images:
            why = "it predicts no images, so there are no reconstructions to look at"
        return [Paragraph(f"{training.title}: {why}. Its loss is among the figures.")]
    folder = Path(layout.pretraining(name, first[name]).pictures)
    return [
        Picture(layout.relative((folder / f"{name}.png").as_posix()), caption, width=1000)
        for name, caption in read_captions(folder).items()
    ]


def _dataset(layout: Layout) -> Section:
    return dataset_text.document(
        json.loads(Path(layout.file("dataset.json")).read_text(encoding="utf-8"))
    )


def _provenance(report: _Report) -> Section:
    rows = pd.concat([report.found.results, *(study.rows for study in report.studies)])
    origins = provenance.pretrainings(report.runs)
    origins += provenance.finetunings(rows, report.layout)
    return provenance.section(origins, report.layout, checked=report.checked)


def _configuration(experiment: Experiment) -> Section:
    values = json.loads(dumps_ordered(experiment))
    text = yaml.safe_dump(values, sort_keys=False, width=100)
    return Section("Configuration", [Paragraph("With every default written out."), Listing(text)])


def _asset(name: str) -> Markup:
    # Files of this package, which go into <style> and <script> as they are.
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
