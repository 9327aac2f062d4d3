"""losses.csv: losses of the pretrainings beside those of constant predictions."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting.pretraining_losses import measure

with job_log(snakemake.log[0]):
    experiment = loads(snakemake.params.experiment)
    with records.stage(snakemake, results=experiment.results):
        found = measure(experiment, manifest_path=Path(snakemake.input.manifest))
        write_text(Path(snakemake.output.csv), found.to_csv(index=False))
