"""table.md, from what the finished runs left."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files.atomic import write_text
from mfm.reporting import finished, table
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    found = finished.read(loads(snakemake.params.experiment))
    write_text(Path(snakemake.output.table), to_markdown(table.document(found)))
