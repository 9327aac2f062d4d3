"""Evaluation of a finetuned model: every image counts once, whatever the number of ranks.

Leaves a CSV of one row (the columns of results.csv) and a parquet of one row per image; of a
further evaluation (`name` in its config.json) a CSV of one row alone.

A job of the workflow:

    mfm evaluate --config results/evaluate/config.json \\
        --manifest data/fashion-mnist/manifest.parquet \\
        --weights results/finetune/mfm/seed0/model.safetensors \\
        --csv row.csv --predictions predictions.parquet

A checkpoint that a public MFM code published, with the constants and the images of an experiment:

    mfm evaluate --configfile configs/imagenet-resnet50.yaml \\
        --weights saved_model_bce_15.pth --from upstream --csv saved_model_bce_15.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfm.commands.arguments import add_config, add_look, check_config, create_parser
from mfm.data.linking import manifest
from mfm.errors import UserError
from mfm.evaluation import looks
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.run import run
from mfm.experiment.layout import results_of
from mfm.experiment.places import check_place
from mfm.files import records
from mfm.models.weights import weights_checksum
from mfm.processes.ranks import Process, barrier, begin, process_group
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("evaluate", __doc__)
    add_config(parser, required=False)
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="in place of --config: an experiment, later files laid over earlier ones; its "
        "dataset is linked if need be",
    )
    parser.add_argument("--manifest", type=Path, help="data/NAME/manifest.parquet, with --config")
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors")
    parser.add_argument(
        "--from",
        dest="source",
        choices=("upstream", "paper"),
        help="whose finetuned .pth file --weights is; it is converted, beside --csv",
    )
    parser.add_argument(
        "--pretraining", help="the arm's, for the result row (default: what the weights say)"
    )
    parser.add_argument("--csv", type=Path, required=True, help="the result row")
    parser.add_argument("--predictions", type=Path, help="one row per image, of 'evaluate'")
    add_look(parser)
    parser.add_argument("--workers", type=int, default=1, help="loader processes per rank")
    options = parser.parse_args(words)
    if (options.config is None) == (options.configfile is None):
        parser.error("give --config or --configfile")
    if (options.config is None) != (options.manifest is None):
        parser.error("--config and --manifest go together; --configfile finds its own manifest")
    begin()
    with process_group() as process:
        if options.configfile is None:
            check_config(options)
            job, images = load_json(EvaluateJob, options.config), options.manifest
        else:
            job, images = _of_experiment(options.configfile, process)
        weights = options.weights
        if options.source is not None:
            weights = options.csv.with_suffix(".safetensors")
            if process.is_main:
                _convert(options.weights, weights, source=options.source, job=job)
            barrier(process)
        read = _checked(weights)
        read.append(manifest.check_images(images, job.evaluation.split))
        look = options.look
        if options.configfile is not None:  # of weights that no experiment of this workflow has
            look = weights_checksum(str(weights))[:12], options.csv.as_posix()
        if process.is_main and look:
            experiment, results = look
            split = job.evaluation.split
            looks.note(images.parent, split=split, experiment=experiment, results=results)
        run(
            job,
            manifest_path=images,
            weights=weights,
            pretraining=options.pretraining,
            row=options.csv,
            predictions=options.predictions,
            process=process,
            workers=options.workers,
        )
        if process.is_main:
            read += [options.config] if options.config else options.configfile
            left = [options.csv, *([options.predictions] if options.predictions else [])]
            records.write(read=read, left=left)


def _checked(weights: Path) -> list[Path]:
    """The files of a finetuned model that are read, if they are what its training left."""
    metrics = weights.parent / "metrics.csv"
    files = [weights, *([metrics] if metrics.exists() else [])]
    records.check(files, results=results_of(weights.parent))
    check_place(weights)
    return files


def _of_experiment(files: Sequence[Path], process: Process) -> tuple[EvaluateJob, Path]:
    """An experiment's evaluation, and the manifest of its dataset."""
    # Here and below: what no job of the workflow needs, of which there are many.
    from mfm.data.linking.link import link
    from mfm.data.sources.named import check_owner
    from mfm.experiment.layout import dataset_folder
    from mfm.experiment.resolve import dataset_job, evaluate_job
    from mfm.experiment.settings import load_yaml

    experiment = load_yaml(*files)
    dataset = dataset_job(experiment)
    folder = dataset_folder(dataset.name)
    check_owner(dataset, folder)
    # One that is there stays as it is: it is an input of the workflow's finished runs.
    if process.is_main and not (folder / manifest.NAME).exists():
        link(dataset, folder)
    barrier(process)
    return evaluate_job(experiment), folder / manifest.NAME


def _convert(checkpoint: Path, out: Path, *, source: str, job: EvaluateJob) -> None:
    """What a public code published, as this package saves its own."""
    from mfm.models.conversion import convert

    network = convert(
        checkpoint, out, source=source, target="safetensors", backbone=job.model.backbone
    )
    if not network.classes:
        out.unlink()
        raise UserError(f"{checkpoint} has no classifier: it is of a pretraining")
