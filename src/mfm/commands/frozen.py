"""Accuracy of logistic regression and kNN on frozen features: pixels, random weights, or an arm's.

A job of the workflow; leaves a CSV with a row for each seed and method.

    mfm frozen --config results/frozen/mfm.json --manifest data/fashion-mnist/manifest.parquet \\
        --weights results/pretrain/mfm/seed0/backbone.safetensors --csv results/frozen/mfm.csv
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import add_config, add_look, check_config, create_parser
from mfm.data import manifest
from mfm.evaluation import looks
from mfm.evaluation.frozen.run import run
from mfm.evaluation.frozen.settings import FrozenJob
from mfm.experiment.layout import results_of
from mfm.experiment.places import check_place
from mfm.files import records
from mfm.processes.ranks import begin, process_group
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("frozen", __doc__)
    add_config(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument(
        "--weights",
        nargs="+",
        required=True,
        help="what each seed starts from: a file, a name, or 'scratch'; one alone is for all seeds",
    )
    parser.add_argument("--csv", type=Path, required=True, help="the rows")
    add_look(parser)
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    options = parser.parse_args(words)
    check_config(options)
    job = load_json(FrozenJob, options.config)
    weights = options.weights * (len(job.seeds) if len(options.weights) == 1 else 1)
    if len(weights) != len(job.seeds):
        parser.error(f"--weights are {len(weights)}, seeds {len(job.seeds)}")
    files = [path for path in dict.fromkeys(weights) if Path(path).expanduser().is_file()]
    for path in files:
        records.check([path], results=results_of(Path(path).parent))
        check_place(Path(path))
    images = [manifest.check_images(options.manifest, split) for split in job.splits]
    if options.look:
        experiment, results = options.look
        split = job.evaluation.split
        looks.note(options.manifest.parent, split=split, experiment=experiment, results=results)
    begin()
    with process_group() as process:
        run(
            job,
            manifest_path=options.manifest,
            weights=weights,
            csv=options.csv,
            workers=options.workers,
            device=process.device,
        )
    records.write(read=[options.config, *images, *files], left=[options.csv])
