"""The page and rows of a further evaluation."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting import further
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment, name = loads(snakemake.params.experiment), snakemake.params.name
    with records.stage(snakemake, results=experiment.results):
        rows = further.collect(experiment, name)
        found = to_markdown(further.document(experiment, name, rows))
        write_text(Path(snakemake.output.csv), rows.to_csv(index=False))
        write_text(Path(snakemake.output.table), found)
