"""CSV of a table of a document: its heads and its cells' text."""

from __future__ import annotations

import csv
import io
from typing import Any

from mfm.reporting.document import Table, plain


def to_csv(table: Table[Any]) -> str:
    """The table's text, a line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.head for column in table.columns])
    writer.writerows([[plain(cell) for cell in cells] for cells in table.cells()])
    return text.getvalue()
