"""Extraction of frozen features: pixels, or what a set of weights makes of the images, into a file.

A job of the workflow; leaves a Parquet file of the training images that may be labelled and of the
evaluated ones (see mfm.evaluation.frozen.features_file).

    mfm features --config results/features/mfm/seed0.json \\
        --manifest data/fashion-mnist/manifest.parquet \\
        --weights results/pretrain/mfm/seed0/backbone.safetensors \\
        --features results/features/mfm/seed0.parquet
"""

from __future__ import annotations

from pathlib import Path

from mfm.commands.arguments import add_config, check_config, create_parser
from mfm.data.linking import manifest
from mfm.evaluation.frozen.extract import run
from mfm.evaluation.frozen.settings import FeaturesJob
from mfm.experiment.layout import results_of
from mfm.experiment.places import check_place
from mfm.files import records
from mfm.processes.ranks import begin, process_group
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("features", __doc__)
    add_config(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    parser.add_argument("--weights", required=True, help="a file, a name, or 'scratch'")
    parser.add_argument("--features", type=Path, required=True, help="the Parquet file")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    options = parser.parse_args(words)
    check_config(options)
    job = load_json(FeaturesJob, options.config)
    file = Path(options.weights)
    files = [file] if file.expanduser().is_file() else []
    if files:
        records.check(files, results=results_of(file.parent))
        check_place(file)
    images = [manifest.check_images(options.manifest, split) for split in job.splits]
    begin()
    with process_group() as process:
        run(
            job,
            manifest_path=options.manifest,
            weights=options.weights,
            path=options.features,
            workers=options.workers,
            device=process.device,
        )
    records.write(read=[options.config, *images, *files], left=[options.features])
