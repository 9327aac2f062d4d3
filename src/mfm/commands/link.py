"""Link of a dataset below data/NAME/, with a manifest and a summary.

Leaves data/NAME/{train,val} (links to the user's folders, or an export of a built-in dataset),
pretrain (a link, where unlabelled images are given), manifest.parquet, summary.json, and
images.SPLIT.json of each split, which tells the jobs that read it whether its images changed.

    mfm link --config data/fashion-mnist/config.json --folder data/fashion-mnist
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from mfm.commands.arguments import add_config, check_config, create_parser
from mfm.data.linking.link import link
from mfm.data.settings import DatasetJob
from mfm.experiment.demands import Demands, count_faults
from mfm.settings.section import load_json, parse


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("link", __doc__)
    add_config(parser)
    parser.add_argument("--folder", type=Path, required=True, help="data/NAME")
    parser.add_argument("--demands", help="JSON of what an experiment asks of the dataset")
    options = parser.parse_args(words)
    demands = Demands(trainings=[], sizes=[])
    if options.demands is not None:
        demands = parse(Demands, json.loads(options.demands), where="--demands")
    check_config(options)
    notes = link(
        load_json(DatasetJob, options.config),
        options.folder,
        demands=partial(count_faults, demands),
    )
    for note in notes:
        print(f"mfm: note: {note}", file=sys.stderr, flush=True)
