"""`python -m mfm.longer`: the configuration of a run from scratch that is as long as another arm's.

A pretraining costs time that training from scratch could use too. The numbers of images, and so the
epochs that take the same time, are known once the dataset is linked; this writes the run's
config.json then. Time is counted by images shown and their pixels, because that is known before
anything ran and is the same on every machine: what a step of pretraining costs beside its backbone
(the head, the Fourier transforms) is not counted. The table shows the measured times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mfm import config, workflow
from mfm.atomic import write_text
from mfm.check import images_used
from mfm.errors import exits_on_user_error


def shown(demand: config.Demand, summary: dict[str, Any]) -> int:
    """Images that an epoch shows, given the dataset's summary.

    The last, incomplete batch of an epoch is left out, as in training.
    """
    images = images_used(demand, summary["splits"][demand.split])
    return images // demand.batch * demand.batch


def lengthened(longer: config.LongerRun, summary: dict[str, Any]) -> config.FinetuneRun:
    """The run with as many epochs more, rounded, as the pretraining's pixels fill; at least one."""
    training = longer.run.training
    size = training.crop.size or longer.run.dataset.image_size
    epoch = shown(workflow.finetune_demand("finetune", training), summary) * size**2
    pretraining = shown(longer.pretraining, summary) * longer.size**2 * longer.epochs
    epochs = training.epochs + max(1, round(pretraining / epoch))
    longest = config.Finetuning.model_validate(training.model_dump() | {"epochs": epochs})
    return longer.run.model_copy(update={"training": longest})


@exits_on_user_error
def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="JSON of the run and of what it makes up for")
    parser.add_argument("--summary", type=Path, required=True, help="data/<name>/summary.json")
    parser.add_argument("--config", type=Path, required=True, help="config.json to write")
    options = parser.parse_args()
    longer = config.parse(config.LongerRun, json.loads(options.run), where="--run")
    run = lengthened(longer, json.loads(options.summary.read_text()))
    write_text(options.config, config.dumps(run) + "\n")
    print(f"{run.training.epochs} epochs, as long as with {longer.pretraining.key}")


if __name__ == "__main__":
    main()
