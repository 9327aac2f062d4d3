"""The page and rows of the evaluations on other images."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting import also
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        rows = also.collect(experiment)
        found = to_markdown(also.document(experiment, also.read(experiment, rows)))
        write_text(Path(snakemake.output.csv), rows.to_csv(index=False))
        write_text(Path(snakemake.output.table), found)
