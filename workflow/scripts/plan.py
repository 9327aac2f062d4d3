"""plan.md, from results.csv."""

from pathlib import Path

from mfm.errors import job_log
from mfm.evaluation.results import read_results
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting import plan
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        found = plan.document(experiment, read_results(snakemake.input.results))
        write_text(Path(snakemake.output.plan), to_markdown(found))
