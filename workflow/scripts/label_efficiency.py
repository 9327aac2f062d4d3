"""label_efficiency.md, .png and .csv, from the result rows of every amount of labelled images."""

import json
import sys
from pathlib import Path

from mfm import config
from mfm.atomic import write_text
from mfm.report import label_efficiency

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = config.parse(
        config.Experiment, json.loads(snakemake.params.experiment), where="configuration"
    )
    results = label_efficiency.collect(experiment)
    write_text(Path(snakemake.output.csv), results.to_csv(index=False))
    label_efficiency.draw(experiment, results, Path(snakemake.output.figure))
    write_text(Path(snakemake.output.table), label_efficiency.render(experiment, results))
