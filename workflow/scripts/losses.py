"""losses.csv: losses of the pretrainings beside those of constant predictions."""

from pathlib import Path

from mfm.errors import job_log
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting.pretraining_losses import measure

with job_log(snakemake.log[0]):
    csv = Path(snakemake.output.csv)
    with records.stage(snakemake, results=csv.parent):
        configs = [Path(config) for config in snakemake.input.configs]
        found = measure(configs, manifest_path=Path(snakemake.input.manifest))
        write_text(csv, found.to_csv(index=False))
