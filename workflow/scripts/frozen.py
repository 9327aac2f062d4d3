"""frozen.csv: the accuracies of all frozen features."""

import sys
from pathlib import Path

from mfm.files.atomic import write_text
from mfm.reporting.frozen import collect

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    write_text(Path(snakemake.output.csv), collect(snakemake.input.rows).to_csv(index=False))
