"""Each arm's best trial, and the rows of all trials."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.experiment.tuning import choose
from mfm.experiment.variants import Runs
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting import tuning
from mfm.settings.section import dumps

with job_log(snakemake.log[0]):
    runs = Runs(loads(snakemake.params.experiment))
    with records.stage(snakemake, results=runs.layout.results):
        rows = tuning.collect_trials(runs)
        write_text(Path(snakemake.output.csv), rows.to_csv(index=False))
        write_text(Path(snakemake.output.choice), dumps(choose(rows)) + "\n")
