"""JSON schema of config.yaml, from the settings' models.

mfm schema config.schema.json
"""

from __future__ import annotations

import json
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.experiment.settings import Experiment
from mfm.files.atomic import write_text


def schema_text() -> str:
    """The schema."""
    return json.dumps(Experiment.model_json_schema(), indent=2) + "\n"


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("schema", __doc__)
    parser.add_argument("file", type=Path, help="JSON to write")
    write_text(parser.parse_args(words).file, schema_text())
