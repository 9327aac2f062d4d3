"""Pictures of one pretraining: what its model makes of fixed images, at its end and on its way."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.jobs import PretrainJob
from mfm.reporting.pictures import draw_pictures
from mfm.settings.section import load_json

with job_log(snakemake.log[0]):
    draw_pictures(
        load_json(PretrainJob, Path(snakemake.input.config)),
        manifest_path=Path(snakemake.input.manifest),
        checkpoint=Path(snakemake.input.checkpoint),
        folder=Path(snakemake.output.folder),
    )
