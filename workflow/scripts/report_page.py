"""report.html: the whole experiment in one file."""

import sys
from pathlib import Path

from mfm.experiment.settings import loads
from mfm.files.atomic import write_text
from mfm.reporting.page.build import build

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    write_text(Path(snakemake.output.page), build(loads(snakemake.params.experiment)))
