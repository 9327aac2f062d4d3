"""report.html: the whole experiment in one file."""

import json
import sys
from pathlib import Path

from mfm.experiment.settings import Experiment
from mfm.files.atomic import write_text
from mfm.reporting.page.build import build
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = parse(Experiment, json.loads(snakemake.params.experiment), where="configuration")
    page = Path(snakemake.output.page)
    write_text(page, build(experiment, page.parent))
