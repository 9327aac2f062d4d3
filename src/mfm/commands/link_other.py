"""Link of other images of a dataset's classes beside it, with a manifest of their own.

Leaves, below data/NAME/also/THEIR NAME/, val (a link to the folder), manifest.parquet, summary.json
and images.val.json, which tells their evaluations whether they changed.

    mfm link-other --config data/imagenet/also/v2/config.json --folder data/imagenet/also/v2 \\
        --manifest data/imagenet/manifest.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

from mfm.commands.arguments import add_config, check_config, create_parser
from mfm.data.linking import manifest
from mfm.data.linking.link_other import link
from mfm.data.settings import OtherImagesJob
from mfm.settings.section import load_json


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("link-other", __doc__)
    add_config(parser)
    parser.add_argument("--folder", type=Path, required=True, help="data/NAME/also/THEIR NAME")
    parser.add_argument("--manifest", type=Path, required=True, help="data/NAME/manifest.parquet")
    options = parser.parse_args(words)
    check_config(options)
    read = [options.config, manifest.check_images(options.manifest, "train")]
    job = load_json(OtherImagesJob, options.config)
    for note in link(job, options.folder, dataset=options.manifest, read=read):
        print(f"mfm: note: {note}", file=sys.stderr, flush=True)
