"""plan.md, from the finished runs' rows, or from assumptions where there are none."""

import json
import sys
from pathlib import Path

from mfm.experiment.settings import Experiment
from mfm.files.atomic import write_text
from mfm.reporting import plan, table
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = parse(Experiment, json.loads(snakemake.params.experiment), where="configuration")
    rows = table.collect([Path(path) for path in snakemake.params.finished])
    write_text(Path(snakemake.output.plan), plan.render(experiment, rows))
