"""`mfm COMMAND`, or `python -m mfm COMMAND`: what people call by hand."""

from __future__ import annotations

import argparse

from mfm import watch
from mfm.errors import exits_on_user_error


@exits_on_user_error
def main() -> None:
    """Command line: see `mfm --help`."""
    parser = argparse.ArgumentParser(prog="mfm", description="Masked frequency modeling.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    watch.add_command(commands)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
