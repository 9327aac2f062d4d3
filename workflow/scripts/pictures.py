"""Pictures of one pretraining: what its model makes of fixed images, at its end and on its way."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.jobs import PretrainJob
from mfm.experiment.layout import results_of
from mfm.files import records
from mfm.processes.startup import importing
from mfm.settings.section import load_json

with importing():
    from mfm.reporting.pictures import draw_pictures

with job_log(snakemake.log[0]):
    config = Path(snakemake.input.config)
    with records.stage(snakemake, results=results_of(config.parent)):
        draw_pictures(
            load_json(PretrainJob, config),
            manifest_path=Path(snakemake.input.manifest),
            checkpoint=Path(snakemake.input.checkpoint),
            folder=Path(snakemake.output.folder),
        )
