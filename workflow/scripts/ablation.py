"""ablation_*.md and .csv, from the result rows of every value."""

import json
import sys
from pathlib import Path

from mfm.experiment.settings import Experiment
from mfm.files.atomic import write_text
from mfm.reporting import ablations
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = parse(Experiment, json.loads(snakemake.params.experiment), where="configuration")
    name = snakemake.wildcards.ablation
    results = ablations.collect(experiment, name)
    write_text(Path(snakemake.output.csv), results.to_csv(index=False))
    write_text(Path(snakemake.output.table), ablations.render(experiment, name, results))
