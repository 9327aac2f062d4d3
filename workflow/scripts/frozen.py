"""frozen.csv: the accuracies of all frozen features."""

from pathlib import Path

from mfm.errors import job_log
from mfm.files.atomic import write_text
from mfm.reporting.frozen import collect

with job_log(snakemake.log[0]):
    write_text(Path(snakemake.output.csv), collect(snakemake.input.rows).to_csv(index=False))
