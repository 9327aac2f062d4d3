"""What one pretraining's model makes of fixed images, at its end and on its way."""

import sys
from pathlib import Path

from mfm import config
from mfm.report import reconstructions

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    reconstructions.draw(
        config.load_json(config.PretrainRun, Path(snakemake.input.config)),
        manifest_path=Path(snakemake.input.manifest),
        checkpoint=Path(snakemake.input.checkpoint),
        folder=Path(snakemake.output.figure).parent,
    )
