"""report.html: the whole experiment in one file."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting.page.build import build

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results) as checked:
        write_text(Path(snakemake.output.page), build(experiment, checked=checked))
