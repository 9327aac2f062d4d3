"""report.html: the whole experiment in one file."""

import json
import sys
from pathlib import Path

from mfm import config
from mfm.atomic import write_text
from mfm.report.page.build import build

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = config.parse(
        config.Experiment, json.loads(snakemake.params.experiment), where="configuration"
    )
    page = Path(snakemake.output.page)
    write_text(page, build(experiment, page.parent))
