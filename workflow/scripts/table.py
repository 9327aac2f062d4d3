"""table.md, from results.csv."""

import json
import sys
from pathlib import Path

import pandas as pd

from mfm.experiment.settings import Experiment
from mfm.files.atomic import write_text
from mfm.reporting import table
from mfm.settings.section import parse

with open(snakemake.log[0], "w") as log:
    sys.stderr = log
    output = Path(snakemake.output.table)
    text = table.render(
        experiment=parse(
            Experiment, json.loads(snakemake.params.experiment), where="configuration"
        ),
        results=pd.read_csv(snakemake.input.results, dtype={"config_hash": str}),
        pretrain_seconds={
            Path(path).parent.name: float(pd.read_csv(path)["seconds"].sum())
            for path in snakemake.input.pretrain_metrics
        },
        summary=json.loads(Path(snakemake.input.summary).read_text()),
        folder=output.parent,
    )
    write_text(output, text)
