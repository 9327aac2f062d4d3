"""Pages of the report beside its answer: one a question, each folded under its own title.

A further page is a function that returns one, and its line in `gather`; the rule report_page names
the files that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mfm.experiment.layout import Layout
from mfm.experiment.resolve import further_pages
from mfm.experiment.tuning import Choice
from mfm.experiment.variants import Runs
from mfm.reporting import also, further, metrics, plan, probe, tuning, variants
from mfm.reporting.document import Section, Text, plain
from mfm.reporting.finished import Finished
from mfm.settings.section import load_json


@dataclass(frozen=True, kw_only=True)
class Page:
    """A document of its own, and where the paths of its pictures begin."""

    name: str  # of its place in the report: letters, digits, '-' and '_'
    section: Section
    folder: Path


def gather(found: Finished, runs: Runs, studies: Sequence[variants.Compared]) -> list[Page]:
    """Every page, in the report's order."""
    return [
        *_studies(studies),
        *_tuning(runs),
        *_further(found),
        _page(found, "metrics", metrics.document(metrics.read(found.experiment, found.results))),
        *_also(found),
        *(_page(found, "probe", page) for page in probe.pages(found)),
        _page(found, "plan", plan.document(found.experiment, found.results, found_now=False)),
    ]


def heading(found: Finished, section: Section) -> Text:
    """A page's title without the names that the whole report has in its own."""
    experiment = found.experiment
    names = f"{experiment.model.backbone} on {experiment.dataset.name}: "
    title = plain(section.title)
    if not title.startswith(names):
        return section.title
    said = title.removeprefix(names)
    return f"{said[:1].upper()}{said[1:]}"


def _page(found: Finished, name: str, section: Section) -> Page:
    return Page(name=name, section=section, folder=Path(found.layout.results))


def _studies(studies: Sequence[variants.Compared]) -> Iterator[Page]:
    for study in studies:
        folder = Path(study.runs.layout.variants(study.study)).parent
        section = variants.document(study)
        yield Page(name=f"variants-{study.study}", section=section, folder=folder)


def _tuning(runs: Runs) -> Iterator[Page]:
    layout: Layout = runs.layout
    if not runs.trials:
        return
    choice = load_json(Choice, Path(layout.file("tuning.json")))
    read = tuning.read(runs, choice, trials=Path(layout.variants("tuning", "csv")))
    yield Page(name="tuning", section=tuning.document(read), folder=Path(layout.results))


def _further(found: Finished) -> Iterator[Page]:
    experiment = found.experiment
    for page, name in further_pages(experiment).items():
        rows = pd.read_csv(found.layout.file(f"{page}.csv"))
        yield _page(found, page, further.document(experiment, name, rows))


def _also(found: Finished) -> Iterator[Page]:
    experiment = found.experiment
    if experiment.evaluate.also:
        images = also.read(experiment, pd.read_csv(found.layout.file("also.csv")))
        yield _page(found, "also", also.document(experiment, images))
