"""The metrics of every run: their rows, page and figure."""

from pathlib import Path

from mfm.errors import job_log
from mfm.evaluation.results import read_results
from mfm.experiment.settings import loads
from mfm.files import records, style
from mfm.files.atomic import write_text
from mfm.reporting import metrics
from mfm.reporting.figures.metrics import draw_metrics
from mfm.reporting.render_markdown import to_markdown

with job_log(snakemake.log[0]):
    experiment, output = loads(snakemake.params.experiment), snakemake.output
    with records.stage(snakemake, results=experiment.results):
        results = read_results(snakemake.input.results)
        values, recalls = metrics.collect(experiment, results)
        write_text(Path(output.csv), values.to_csv(index=False))
        write_text(Path(output.classes), recalls.to_csv(index=False))
        found = metrics.read(experiment, results)
        figure = draw_metrics(found)
        for path in (output.svg, output.png):
            style.save(figure, Path(path))
        write_text(Path(output.page), to_markdown(metrics.document(found)))
