"""The page, numbers and figure of what is read from frozen features."""

from pathlib import Path

from mfm.errors import job_log
from mfm.experiment.settings import loads
from mfm.files import records, style
from mfm.files.atomic import write_text
from mfm.reporting import frozen, probe
from mfm.reporting.figures.probe import draw_probe
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment, output = loads(snakemake.params.experiment), snakemake.output
    with records.stage(snakemake, results=experiment.results):
        found = frozen.Readings(experiment=experiment, rows=frozen.read(snakemake.input.csv))
        write_text(Path(output.csv), probe.numbers(found).to_csv(index=False))
        figure = draw_probe(found)
        for path in (output.svg, output.png):
            style.save(figure, Path(path))
        write_text(Path(output.table), to_markdown(probe.document(found)))
