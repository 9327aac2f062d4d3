"""A figure of a further evaluation, from its page's rows."""

from pathlib import Path

import pandas as pd

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records, style
from mfm.reporting.figures.further import draw_further

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        rows = pd.read_csv(snakemake.input.rows)
        figure = draw_further(experiment, snakemake.wildcards.figure, rows)
        for path in (snakemake.output.svg, snakemake.output.png):
            style.save(figure, Path(path))
