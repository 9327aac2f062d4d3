"""report.html: the whole experiment in one file."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files.atomic import write_text
from mfm.reporting.page.build import build

with job_log(snakemake.log[0]):
    write_text(Path(snakemake.output.page), build(loads(snakemake.params.experiment)))
