"""label_efficiency.md, .png and .csv, from the result rows of every amount of labelled images."""

import json
import sys
from pathlib import Path

from mfm.experiment.settings import Experiment
from mfm.files.atomic import write_text
from mfm.reporting import label_efficiency
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = parse(Experiment, json.loads(snakemake.params.experiment), where="configuration")
    results = label_efficiency.collect(experiment)
    write_text(Path(snakemake.output.csv), results.to_csv(index=False))
    label_efficiency.draw(experiment, results, Path(snakemake.output.figure))
    write_text(Path(snakemake.output.table), label_efficiency.render(experiment, results))
