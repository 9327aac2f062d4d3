"""Watch of a workflow's runs while they run: epochs, losses, speeds, time left.

mfm watch results
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from mfm.commands.arguments import create_parser
from mfm.reporting.watch import draw, find, render

_WIDE = 10_000  # characters: no line is cut


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
        print(render(options.results, find(options.results), width=_WIDE))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(options.results, every=options.every)


def _follow(results: Path, *, every: float) -> None:
    """On a terminal in place; elsewhere, such as in a file, one state after the other."""
    console = Console()
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    with live if console.is_terminal else contextlib.nullcontext():
        while True:
            runs = find(results)
            if console.is_terminal:
                live.update(draw(results, runs), refresh=True)
            else:
                print(render(results, runs, width=_WIDE), flush=True)
            if all(run.state == "done" for run in runs if run.asked):
                return
            time.sleep(every)
