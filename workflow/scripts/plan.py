"""plan.md, from results.csv."""

from pathlib import Path

from mfm.errors import job_log
from mfm.evaluation.results import read_results
from mfm.experiment.settings import loads
from mfm.files.atomic import write_text
from mfm.reporting import plan
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    found = plan.document(experiment, read_results(snakemake.input.results))
    write_text(Path(snakemake.output.plan), to_markdown(found))
