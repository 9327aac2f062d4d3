"""Report on a linked dataset: what is in it, and what may spoil a comparison on it.

Leaves dataset.json and, from it, dataset.md.
"""

from __future__ import annotations

import json
from pathlib import Path

from mfm.commands.arguments import add_config, check_config, create_parser
from mfm.experiment.jobs import DatasetReportJob
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting.dataset import describe
from mfm.reporting.dataset_text import render
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("dataset", __doc__)
    add_config(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument("--markdown", type=Path, required=True, help="dataset.md")
    parser.add_argument("--json", type=Path, required=True, help="dataset.json")
    options = parser.parse_args(words)
    check_config(options)
    records.check([options.manifest], results=None)
    found = describe(load_json(DatasetReportJob, options.config), options.manifest)
    write_text(options.json, json.dumps(found, indent=2) + "\n")
    write_text(options.markdown, render(found))
    read = [options.config, options.manifest]
    records.write(read=read, left=[options.markdown, options.json])
