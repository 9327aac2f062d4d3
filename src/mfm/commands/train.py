"""Training: one pretraining, or one finetuning of one arm, as its config.json says.

Leaves in the run folder metrics.csv, a record of all files read and left (`mfm verify`), and

    of a pretraining   backbone.safetensors, checkpoint.pt (the full state after the last epoch)
    of a finetuning    model.safetensors (of the last epoch), subset.txt (the training images that
                       were used), and accuracy.csv where `curve_images` asks for it

    mfm launch --standalone --nproc-per-node 1 -m mfm train \\
        --config results/pretrain/mfm/seed0/config.json \\
        --manifest data/fashion-mnist/manifest.parquet --folder results/pretrain/mfm/seed0
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from mfm.commands.arguments import add_config, check_config, create_parser
from mfm.errors import UserError
from mfm.experiment.jobs import load_training
from mfm.experiment.layout import results_of
from mfm.experiment.places import check_place
from mfm.experiment.question import declare_now
from mfm.files import records
from mfm.processes.lifetime import StopRequest
from mfm.processes.locks import only_writer
from mfm.processes.ranks import begin, process_group
from mfm.training import operation
from mfm.training.run import run


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("train", __doc__)
    add_config(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument(
        "--weights",
        help="initial weights: a file, a name, or 'scratch' (default: what the settings say)",
    )
    parser.add_argument(
        "--question",
        nargs=2,
        metavar=("FILE", "JSON"),
        help="declare it before anything is trained, as mfm declare does",
    )
    operation.add_arguments(parser)
    options = parser.parse_args(words)
    check_config(options)
    job = load_training(options.config)
    weights = options.weights or job.initial_weights
    if weights is None:
        raise UserError(f"{job.title} starts from a pretraining: give its weights with --weights")
    if Path(weights).expanduser().is_file():
        records.check([weights], results=results_of(Path(weights).parent))
        check_place(Path(weights))
    stop = StopRequest()
    stop.catch_signals()
    begin()
    operated = operation.from_options(options, stop)
    with (
        process_group(timeout_minutes=operated.timeout_minutes) as process,
        only_writer(options.folder) if process.is_main else nullcontext(),
    ):
        if process.is_main and options.question:
            declare_now(Path(options.question[0]), options.question[1])
        run(
            job,
            config=options.config,
            weights=weights,
            manifest_path=options.manifest,
            operation=operated,
            process=process,
        )
