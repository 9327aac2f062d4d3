"""tuning.md: what was tried, each arm's best, and what it changes in the comparison."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.experiment.tuning import Choice
from mfm.experiment.variants import Runs
from mfm.files import records
from mfm.files.atomic import write_text
from mfm.reporting import tuning
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import load_json

with job_log(snakemake.log[0]):
    runs = Runs(loads(snakemake.params.experiment))
    with records.stage(snakemake, results=runs.layout.results):
        choice = load_json(Choice, Path(snakemake.input.choice))
        found = tuning.read(runs, choice, trials=Path(snakemake.input.trials))
        write_text(Path(snakemake.output.csv), found.tuned.to_csv(index=False))
        write_text(Path(snakemake.output.table), to_markdown(tuning.document(found)))
