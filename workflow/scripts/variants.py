"""A study's page, rows and figure, from the result rows of every value."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.experiment.variants import Runs
from mfm.files import records, style
from mfm.files.atomic import write_text
from mfm.reporting import variants
from mfm.reporting.figures.variants import draw_study
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    runs, study = Runs(loads(snakemake.params.experiment)), snakemake.wildcards.study
    with records.stage(snakemake, results=runs.layout.results):
        found = variants.Compared(runs=runs, study=study, rows=variants.collect(runs, study))
        write_text(Path(snakemake.output.csv), found.rows.to_csv(index=False))
        figure = draw_study(found)
        for path in (snakemake.output.svg, snakemake.output.png):
            style.save(figure, Path(path))
        write_text(Path(snakemake.output.table), to_markdown(variants.document(found)))
