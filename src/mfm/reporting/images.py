"""Images of a comparison: what to know of them before its answer is believed."""

from __future__ import annotations

from mfm.data.folders import left_out, meaning
from mfm.experiment.layout import dataset_folder
from mfm.reporting.document import Bold, Code, Text
from mfm.reporting.finished import Finished


def notes(found: Finished) -> list[Text]:
    """Which evaluated images were trained on, and how many files were left out."""
    summary, name = found.summary, found.experiment.dataset.name
    if "overlap" not in summary:
        return [
            (
                "The dataset was linked by an earlier version, so it isn't known here whether "
                "images were trained on and evaluated too, or left out: ",
                Code("--forcerun link_dataset"),
                " tells.",
            )
        ]
    lines: list[Text] = [
        Bold(line) for line in meaning.leaks(summary, of=[found.experiment.evaluate.split])
    ]
    # What an operating system leaves in every folder is nobody's image.
    kinds = {
        kind: each["number"]
        for kind, each in summary["left_out"].items()
        if kind != left_out.SYSTEM
    }
    if kinds:
        number = sum(kinds.values())
        listed = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
        lines.append(
            (
                f"{number:,} file{'s' * (number > 1)} {'were' if number > 1 else 'was'} left out "
                f"of the dataset ({listed}): ",
                Code(f"{dataset_folder(name)}/{left_out.NAME}"),
                ".",
            )
        )
    return lines
