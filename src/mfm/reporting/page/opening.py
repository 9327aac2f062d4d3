"""Opening of the report: the answer in one sentence, three numbers, and a short table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfm.reporting import answer, columns, cost, images, measure, table
from mfm.reporting.columns import MeasuredArm
from mfm.reporting.document import Block, Column, Paragraph, Section, Table, Text, joined, plain
from mfm.reporting.finished import Finished
from mfm.reporting.page.glossary import linked
from mfm.reporting.verdict import Comparison
from mfm.reporting.words import points


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number to read from afar, and what it is."""

    name: Text
    value: str
    unit: Text
    note: Text


def sentence(found: Finished, compared: Sequence[Comparison]) -> Text:
    """The verdict; its numbers stand beside it."""
    return linked(answer.opening(found.experiment, compared, numbers=False))


def numbers(found: Finished, compared: Sequence[Comparison]) -> list[Number]:
    """Of the first comparison, the declared one if there is one: how much, how sure, how dear."""
    if not compared:
        return []
    one, gap = compared[0], compared[0].difference
    its, known = measure.asked(found.experiment), gap.low is not None
    better = f"; {its.better}" if its.better else ""
    least = answer.needed(one)
    how = "in pairs of runs with the same seed" if gap.method == "paired" else "or more of each arm"
    return [
        Number(
            name=f"{one.arm} less {one.other}",
            value=points(gap.mean, its.metric.digits),
            unit=linked(its.counted),
            note=linked(
                f"95% interval {its.interval(gap)}{better}" if known else "without interval"
            ),
        ),
        Number(
            name="rests on",
            value=f"{gap.units}",
            unit=linked(f"{one.unit}{'s' * (gap.units != 1)}"),
            note=linked(how if least is None else f"too few for a clear verdict: it takes {least}"),
        ),
        Number(
            name=linked(f"cost of {one.arm}"),
            value=cost.times(found, one.arm, one.other),
            unit=f"times {one.other}",
            note="training time, pretraining and finetuning",
        ),
    ]


def remarks(found: Finished, compared: Sequence[Comparison]) -> Text:
    """What to know before the answer is believed."""
    lines = [*answer.remarks(found, compared, numbers=False), *images.notes(found)]
    return joined(lines, " ")


def arms(found: Finished, compared: Sequence[Comparison]) -> list[Block]:
    """The short table, and what may spoil it."""
    short, _ = columns.in_two(found, _first(compared))
    return [
        Paragraph(linked(plain(table.setting(found)))),
        Table([_explained(column) for column in short], _rows(found, compared)),
        *table.alarms(found, compared),
    ]


def more(found: Finished, compared: Sequence[Comparison]) -> list[Section]:
    """The table's other columns, where there are some."""
    _, others = columns.in_two(found, _first(compared))
    if len(others) < 2:
        return []
    return [Section("More about the arms", [Table(others, _rows(found, compared))])]


def _first(compared: Sequence[Comparison]) -> Comparison | None:
    return compared[0] if compared else None


def _rows(found: Finished, compared: Sequence[Comparison]) -> list[MeasuredArm]:
    return [MeasuredArm(name=name, found=found, compared=compared) for name in found.arms]


def _explained(column: Column[MeasuredArm]) -> Column[MeasuredArm]:
    """With the words of a verdict explained."""
    if column.name != "verdict":
        return column

    def cell(arm: MeasuredArm) -> Text:
        return linked(plain(column.cell(arm)))

    return Column(column.name, cell, unit=column.unit, description=column.description)
