"""gallery.json: images that only one arm gets right, and what each confuses."""

from pathlib import Path

from mfm.errors import job_log
from mfm.evaluation.results import read_results
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.reporting.gallery import content
from mfm.reporting.gallery.build import build

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        results = read_results(snakemake.input.results)
        found = build(experiment, results, Path(snakemake.input.manifest))
        content.save(found, Path(snakemake.output.gallery))
