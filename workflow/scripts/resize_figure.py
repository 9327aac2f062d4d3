"""The evaluation's sizes as a figure, from the ablation's rows."""

import json
import sys
from pathlib import Path

import pandas as pd

from mfm import config
from mfm.report.figures import style
from mfm.report.figures.resize import draw_resize

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    experiment = config.parse(
        config.Experiment, json.loads(snakemake.params.experiment), where="configuration"
    )
    figure = draw_resize(experiment, pd.read_csv(snakemake.input.rows))
    for path in snakemake.output:
        style.save(figure, Path(path))
