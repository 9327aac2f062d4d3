"""Watch of a workflow's runs while they run: epochs, losses, speeds, time left.

mfm watch results
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from mfm.commands.arguments import create_parser
from mfm.reporting.watch import find, render


def main(words: list[str]) -> None:
    """Print the state once, or again and again until every training is done or Ctrl-C."""
    parser = create_parser("watch", __doc__)
    parser.add_argument(
        "results",
        type=Path,
        nargs="?",
        default=Path("results"),
        help="the configuration's results folder (default: results)",
    )
    parser.add_argument("--once", action="store_true", help="print the state once and end")
    parser.add_argument(
        "--every", type=float, default=2.0, help="seconds between two looks (default: 2)"
    )
    options = parser.parse_args(words)
    if options.once:
        print(render(options.results, width=10_000))
        return
    while True:
        size = shutil.get_terminal_size()
        text = render(options.results, width=size.columns)
        if sys.stdout.isatty():
            lines = text.splitlines()[: size.lines - 1]
            text = "\033[H\033[J" + "\n".join(lines)  # from the top, with the rest erased
        print(text, flush=True)
        try:
            if all(run.state == "done" for run in find(options.results)):
                return
            time.sleep(options.every)
        except KeyboardInterrupt:
            return
