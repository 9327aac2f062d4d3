"""results.csv: one row per finetuning run."""

import sys
from pathlib import Path

from mfm.evaluation.results import collect_rows
from mfm.files.atomic import write_text

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    write_text(Path(snakemake.output.csv), collect_rows(snakemake.params.rows).to_csv(index=False))
