"""table.md, from what the finished runs left."""

import sys
from pathlib import Path

from mfm.experiment.settings import loads
from mfm.files.atomic import write_text
from mfm.reporting import finished, table
from mfm.reporting.render_markdown import to_markdown

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    found = finished.read(loads(snakemake.params.experiment))
    write_text(Path(snakemake.output.table), to_markdown(table.document(found)))
