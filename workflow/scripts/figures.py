"""Figures of the comparison, from the files that its runs left."""

from pathlib import Path

from mfm.errors import job_log
from mfm.evaluation.results import read_results
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.reporting.figures.draw import draw_all

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        draw_all(
            experiment,
            read_results(snakemake.input.results),
            Path(snakemake.output.difference).parent,
        )
