"""results.csv: one row per finetuning run."""

import sys
from pathlib import Path

from mfm.files.atomic import write_text
from mfm.reporting import table

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    rows = table.collect([Path(path) for path in snakemake.input.rows])
    write_text(Path(snakemake.output.csv), rows.to_csv(index=False))
