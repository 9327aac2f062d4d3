"""Parsers of the commands' arguments."""

from __future__ import annotations

import argparse


def create_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `mfm NAME`, described by its module's docstring."""
    return argparse.ArgumentParser(
        prog=f"mfm {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_look(parser: argparse.ArgumentParser) -> None:
    """The option of commands that measure accuracies on a split's images."""
    parser.add_argument(
        "--look",
        nargs=2,
        metavar=("HASH", "RESULTS"),
        help="count this experiment, of that results folder, among those evaluated on the split",
    )
