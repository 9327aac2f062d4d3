"""Figures of the comparison, from the files that its runs left."""

import json
from pathlib import Path

import pandas as pd

from mfm.errors import job_log
from mfm.experiment.settings import Experiment
from mfm.reporting.figures.draw import draw_all
from mfm.settings.section import parse

with job_log(snakemake.log[0]):
    draw_all(
        parse(Experiment, json.loads(snakemake.params.experiment), where="configuration"),
        pd.read_csv(snakemake.input.results, dtype={"config_hash": str}),
        Path(snakemake.output.difference).parent,
    )
