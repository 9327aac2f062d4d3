"""The evaluation's sizes as a figure, from the ablation's rows."""

import json
import sys
from pathlib import Path

import pandas as pd

from mfm.experiment.settings import Experiment
from mfm.reporting.figures import style
from mfm.reporting.figures.resize import draw_resize
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = parse(Experiment, json.loads(snakemake.params.experiment), where="configuration")
    figure = draw_resize(experiment, pd.read_csv(snakemake.input.rows))
    for path in snakemake.output:
        style.save(figure, Path(path))
