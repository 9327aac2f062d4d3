"""Accuracy of logistic regression and kNN on frozen features, at several amounts of labels.

A job of the workflow; leaves a CSV with a row for each seed, amount of labels and method.

    mfm frozen --config results/frozen/mfm.json --manifest data/fashion-mnist/manifest.parquet \\
        --features results/features/mfm/seed0.parquet --csv results/frozen/mfm.csv
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import add_config, add_look, check_config, create_parser
from mfm.data.linking import manifest
from mfm.evaluation import looks
from mfm.evaluation.frozen.run import run
from mfm.evaluation.frozen.settings import ProbeJob
from mfm.experiment.layout import results_of_features
from mfm.files import records
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("frozen", __doc__)
    add_config(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument(
        "--features",
        type=Path,
        nargs="+",
        required=True,
        help="each seed's file, as `mfm features` leaves it; one alone is for all seeds",
    )
    parser.add_argument("--csv", type=Path, required=True, help="the rows")
    add_look(parser)
    options = parser.parse_args(words)
    check_config(options)
    job = load_json(ProbeJob, options.config)
    files = options.features * (len(job.seeds) if len(options.features) == 1 else 1)
    if len(files) != len(job.seeds):
        parser.error(f"--features are {len(files)}, seeds {len(job.seeds)}")
    different = list(dict.fromkeys(files))
    for file in different:
        records.check([file], results=results_of_features(file))
    images = [manifest.check_images(options.manifest, split) for split in job.splits]
    if options.look:
        experiment, results = options.look
        looks.note(options.manifest.parent, split=job.split, experiment=experiment, results=results)
    run(job, manifest_path=options.manifest, files=files, csv=options.csv)
    records.write(read=[options.config, *images, *different], left=[options.csv])
