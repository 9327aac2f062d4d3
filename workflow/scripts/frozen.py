"""frozen.csv: the accuracies of all frozen features."""

from pathlib import Path

from mfm.errors import job_log
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting.frozen import collect

with job_log(snakemake.log[0]):
    csv = Path(snakemake.output.csv)
    with records.stage(snakemake, results=csv.parent):
        write_text(csv, collect(snakemake.input.rows).to_csv(index=False))
