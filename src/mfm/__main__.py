"""Command line: `mfm COMMAND`, or `python -m mfm COMMAND`."""

from __future__ import annotations

import sys
from importlib import import_module
from textwrap import wrap

from mfm.errors import UserError, exits_on_user_error
from mfm.processes.startup import QuickEnd, importing

# A module of mfm.commands each, with '_' for '-', that is imported only if it is asked for.
FOR_PEOPLE = {
    "init": "draft an experiment for a folder of your own pictures",
    "run": "run an experiment from any folder: a file of settings, or `tiny`",
    "watch": "show the runs of a workflow while they run",
    "track": "send what runs left so far to MLflow or TensorBoard",
    "plan": "how many seeds would find which difference, from what is finished",
    "verify": "whether a results folder's files fit together, also of one that was sent",
    "shards": "tars of a folder of pictures, to train from in its place",
    "loader-drift": "what a switch of loaders changes on your own images",
    "convert": "checkpoints of the public MFM codes for torchvision, timm or this package",
    "export": "a run's weights for plain torchvision or timm, with a model card",
    "replay": "compute a step again whose numbers went bad",
    "schema": "write the JSON schema of config.yaml",
}
FOR_THE_WORKFLOW = {
    "declare": "the experiment's question, before its first training",
    "link": "put a dataset below data/NAME/ and describe it",
    "link-other": "other images of a dataset's classes, beside it",
    "dataset": "report on a linked dataset",
    "fetch": "torchvision's weights into its cache",
    "train": "a pretraining or a finetuning, from its config.json",
    "evaluate": "accuracy of a finetuned model",
    "features": "what a set of weights makes of the images, into a file",
    "frozen": "logistic regression and kNN on frozen features",
    "launch": "torchrun, fit for a workflow: starts the processes of a training",
    "slurm": "launch, in a SLURM job",
}


def help_text() -> str:
    """All commands, in one screen."""
    lines = ["usage: mfm COMMAND [ARGUMENTS], mfm COMMAND --help", "", "Commands:"]
    lines += [f"  {name:<13} {text}" for name, text in FOR_PEOPLE.items()]
    lines += ["", "Jobs of the workflow, which calls them:"]
    lines += wrap(", ".join(FOR_THE_WORKFLOW), 78, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines).rstrip()


@exits_on_user_error
def main() -> None:
    """Command line: see `mfm --help`."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(help_text())
        return
    known = {**FOR_PEOPLE, **FOR_THE_WORKFLOW}
    if words[0] not in known:
        from mfm.settings.messages import nearest  # pydantic, which a launcher does without

        raise UserError(f"there is no command '{words[0]}'{nearest(words[0], list(known))}")
    with importing():
        command = import_module(f"mfm.commands.{words[0].replace('-', '_')}")
    command.main(words[1:])


def program() -> None:
    """`main`, where it is the whole process."""
    end = QuickEnd()
    try:
        main()
        end.code = 0
    except SystemExit as ended:
        end.code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise


if __name__ == "__main__":
    program()
