"""`python -m mfm.schema FILE`: write the JSON schema of config.yaml."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mfm.atomic import write_text
from mfm.config import Experiment
from mfm.errors import exits_on_user_error


def schema_text() -> str:
    """The schema, generated from the configuration's models."""
    return json.dumps(Experiment.model_json_schema(), indent=2) + "\n"


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    write_text(Path(sys.argv[1]), schema_text())


if __name__ == "__main__":
    main()
