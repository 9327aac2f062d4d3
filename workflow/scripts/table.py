"""table.md, from what the finished runs left."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting import finished, table
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        found = table.document(finished.read(experiment))
        write_text(Path(snakemake.output.table), to_markdown(found))
