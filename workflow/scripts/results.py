"""results.csv: one row per finetuning run."""

from pathlib import Path

from mfm.errors import job_log
from mfm.evaluation.results import collect_rows
from mfm.files import records
from mfm.files.atomic import write_text

with job_log(snakemake.log[0]):
    csv = Path(snakemake.output.csv)
    with records.stage(snakemake, results=csv.parent):
        found = collect_rows(snakemake.params.rows, **snakemake.params.asked)
        write_text(csv, found.to_csv(index=False))
