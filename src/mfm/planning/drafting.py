"""Drafting of an experiment: look, choose, measure, fit, write."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

from mfm.errors import UserError
from mfm.files.atomic import write_text
from mfm.files.lines import shown
from mfm.planning import budget, findings, machine, pictures, speeds, summary
from mfm.planning.draft import Draft, fitting_size
from mfm.planning.layouts import lay_out
from mfm.planning.speeds import Speeds
from mfm.planning.summary import Planned
from mfm.planning.writing import to_yaml

_SCHEMA = "config.schema.json"  # of a checkout, which an editor finds beside the file
_HEAD = """\
Drafted by `mfm init` for {source}.
Stands alone: it has every key, and takes none from config.yaml. Change what you like.
"""
_FASTER = 1.1  # times as fast as torchvision's loader DALI is to be


def draft_file(
    folder: Path, out: Path, *, labels: Path | None = None, seconds: float | None
) -> None:
    """Write the experiment of a folder of pictures, and tell what to expect of it.

    Raises UserError where there is a file of that name, and for pictures that can't be compared on.
    """
    if out.exists():
        raise UserError(f"{shown(out)} is there, and stays as it is: give --out another name")
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out: {shown(out)} is to end with .yaml")
    layout = lay_out(folder, labels)
    with tempfile.TemporaryDirectory(prefix="mfm-init-") as work:
        found = pictures.look(
            layout, pictures.free_name(folder.resolve().name, layout.source), Path(work)
        )
        print(
            f"mfm: timing some steps for {shown(out)}, half a minute on an idle machine",
            file=sys.stderr,
            flush=True,
        )
        planned = plan(
            first_draft(found, machine.look(), results_for(out)), Path(work), seconds=seconds
        )
    text, told = rendered(planned, out)
    write_text(out, text)
    print(told)


def first_draft(found: pictures.Pictures, here: machine.Machine, results: str) -> Draft:
    """What fits, before anything is known of time."""
    val = found.images["val"]
    return Draft(
        pictures=found,
        machine=here,
        results=results,
        size=fitting_size(found.side, gpu=bool(here.gpus)),
        pretrainings=findings.pretrainings(val),
        deviation=findings.deviation(val),
    )


def plan(draft: Draft, work: Path, *, seconds: float | None) -> Planned:
    """Measure, and fit to the budget; smaller images are measured again."""
    draft, found = with_loader(draft, work)
    fitted = draft if seconds is None else budget.fit(draft, found, seconds)
    if fitted.size != draft.size:
        smaller, found = measured(replace(draft, size=fitted.size), work)
        fitted = budget.fit(smaller, found, seconds or 0.0)
    return Planned(full=draft, draft=fitted, speeds=found, budget=seconds)


def measured(draft: Draft, work: Path) -> tuple[Draft, Speeds]:
    """Its speeds; with fewer images at once where a GPU has no memory for so many."""
    while True:
        try:
            return draft, speeds.measure(draft, work)
        except UserError as error:
            held = min(draft.held, max(draft.batch(stage) for stage in ("pretrain", "finetune")))
            if "micro_batch" not in str(error) or held < 16:
                raise
            draft = replace(draft, held=held // 2)


def with_loader(draft: Draft, work: Path) -> tuple[Draft, Speeds]:
    """The draft with the faster loader, where both are for its images, and its speeds."""
    draft, found = measured(draft, work)
    large = draft.pictures.jpegs >= 0.9 and draft.pictures.side >= 2 * draft.size
    if not large or not _has_dali():
        return draft, found
    other = replace(draft, loader="dali")
    try:
        faster = speeds.measure(other, work)
    except UserError as error:
        print(f"mfm: note: loader dali doesn't go here: {error}", file=sys.stderr)
        return draft, found
    if found.pretrain.image > _FASTER * faster.pretrain.image:
        return other, faster
    return draft, found


def _has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # of 'nvidia'
        return False


def results_for(out: Path) -> str:
    """A results folder after the file's name, that holds nothing yet."""
    stem = "".join(c if c.isalnum() or c in "_-." else "-" for c in out.stem).strip("-.") or "mine"
    number, name = 1, f"results/{stem}"
    while Path(name).exists():
        number += 1
        name = f"results/{stem}-{number}"
    return name


def rendered(planned: Planned, out: Path) -> tuple[str, str]:
    """The file's text, and what the terminal shows."""
    command = f"mfm run {shlex.quote(str(out))}"
    told = summary.lines(planned, command)
    head = _HEAD.format(source=planned.draft.pictures.dataset.source).splitlines()
    if out.with_name(_SCHEMA).is_file():
        head = [f"yaml-language-server: $schema={_SCHEMA}", "", *head]
    text = to_yaml(
        planned.draft.experiment,
        head=[*head, "", *_table(told, 97)],
        why=summary.reasons(planned),
    )
    return text, "\n".join([f"{shown(out)}:", *_table(told, 100)])


def _table(told: list[tuple[str, str]], width: int) -> list[str]:
    lines = []
    for about, text in told:
        first, rest = f"{about:<11} ", " " * 12
        lines += textwrap.wrap(
            text,
            width,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
