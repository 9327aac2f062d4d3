"""Parsers of the commands' arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from mfm.errors import UserError
from mfm.files import records
from mfm.settings.section import SEEDS


def create_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `mfm NAME`, described by its module's docstring."""
    return argparse.ArgumentParser(
        prog=f"mfm {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The options that say what a job of the workflow is."""
    parser.add_argument("--config", type=Path, required=required, help="resolved JSON of this job")
    parser.add_argument("--config-sha256", help="refuse another file than what the workflow wrote")


def check_config(options: argparse.Namespace) -> None:
    """Raise UserError where the job's settings were edited or damaged since they were written."""
    if options.config_sha256 and records.sha256(options.config) != options.config_sha256:
        raise UserError(
            f"{options.config} is not what the workflow wrote: change the configuration instead; "
            f"snakemake --cores all --force {options.config} writes it again"
        )


def add_look(parser: argparse.ArgumentParser) -> None:
    """The option of commands that measure accuracies on a split's images."""
    parser.add_argument(
        "--look",
        nargs=2,
        metavar=("HASH", "RESULTS"),
        help="count this experiment, of that results folder, among those evaluated on the split",
    )


def seed(text: str) -> int:
    """The type of an option that is a seed, as the settings' are."""
    number = int(text)
    if not 0 <= number < SEEDS:
        raise argparse.ArgumentTypeError(f"give a whole number from 0 to {SEEDS - 1}")
    return number
