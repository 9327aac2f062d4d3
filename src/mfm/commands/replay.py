"""Replay of a bad step: compute it again, and find where it went wrong.

A run that meets a loss or gradient that is not finite saves the step: the weights before it, the
images, and the configuration. This prints what was recorded and what is computed now, names the
images and the layers with non-finite numbers, and computes the step in fp32 beside it.

    mfm replay results/pretrain/mfm/seed0/bad/epoch00003-step00000120-rank0.pt
"""

from __future__ import annotations

from pathlib import Path

import torch

from mfm.commands.arguments import create_parser
from mfm.errors import UserError
from mfm.experiment.jobs import parse_training
from mfm.files.pickles import load_pickle
from mfm.training import bad_step
from mfm.training.replay import compute, describe, few


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    parser = create_parser("replay", __doc__)
    parser.add_argument("file", type=Path, help="RUN/bad/epoch...-step...-rank....pt")
    file: Path = parser.parse_args(words).file
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    saved = load_pickle(file)
    if not isinstance(saved, dict) or "micro_batches" not in saved:
        raise UserError(
            f"{file} is no saved step: give a file of a run's '{bad_step.FOLDER}' folder"
        )
    print(
        f"{saved['identity']['config']['stage']}, epoch {saved['epoch'] + 1}, step "
        f"{saved['step'] + 1}, rank {saved['rank']} of {saved['world']}, in "
        f"{saved['precision']}: {saved['what']}"
    )
    weights = [
        name
        for name, tensor in saved["model"].items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if weights:
        print(f"  weights that were not finite before the step: {few(weights)}")
    job = parse_training(saved["identity"]["config"], where="the saved step")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for number_format in dict.fromkeys([saved["precision"], "fp32"]):
        outcome = compute(job, saved, number_format=number_format, device=device)
        print(f"again in {number_format}: {describe(outcome, saved['paths'])}")
