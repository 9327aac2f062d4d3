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
