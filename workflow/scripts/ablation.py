"""ablation_*.md and .csv, from the result rows of every value."""

import json
import sys
from pathlib import Path

from mfm import config
from mfm.atomic import write_text
from mfm.report import ablations

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = config.parse(
        config.Experiment, json.loads(snakemake.params.experiment), where="configuration"
    )
    name = snakemake.wildcards.ablation
    results = ablations.collect(experiment, name)
    write_text(Path(snakemake.output.csv), results.to_csv(index=False))
    write_text(Path(snakemake.output.table), ablations.render(experiment, name, results))
