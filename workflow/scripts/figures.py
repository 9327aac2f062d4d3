"""Figures of the comparison, from the files that its runs left."""

import json
import sys
from pathlib import Path

import pandas as pd

from mfm.experiment.settings import Experiment
from mfm.reporting.figures.draw import draw_all
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    draw_all(
        parse(Experiment, json.loads(snakemake.params.experiment), where="configuration"),
        pd.read_csv(snakemake.input.results, dtype={"config_hash": str}),
        Path(snakemake.output.difference).parent,
    )
