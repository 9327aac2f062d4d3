"""`python -m mfm.launch TORCHRUN-ARGUMENTS`: torchrun, fit for a workflow.

Takes torchrun's own arguments and runs torchrun in this process. It differs in three things: it
ends (with its workers) when the workflow that started it is gone, a failed worker's exit code
becomes its own, and a worker's own error line is not followed by the launcher's traceback.
A group of one on one node (`--standalone --nproc-per-node 1`) needs no group: this process then
becomes the worker itself, which saves the start of a second one.

    python -m mfm.launch --standalone --nproc-per-node 2 -m mfm.pretrain --config ...
"""

from __future__ import annotations

import logging
import os
import sys

from mfm.errors import USER_ERROR_EXIT
from mfm.lifetime import end_with_parent

# The C library's allocator gives a large block back to the system when it is freed, and the next
# step asks for it again, page by page. Keeping it made a CPU training step of ResNet-18 at 32 px
# 5 to 25% faster (batch 50 to 128, one thread). It reads these when a process starts.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest it accepts
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
_ALONE = ["--standalone", "--nproc-per-node", "1", "-m"]


def main() -> None:
    """Command line: see the module's docstring."""
    for name, value in _KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    arguments = sys.argv[1:]
    if arguments[: len(_ALONE)] == _ALONE:
        os.execv(sys.executable, [sys.executable, *arguments[len(_ALONE) - 1 :]])
    end_with_parent()
    _run_group(arguments)


def _run_group(arguments: list[str]) -> None:
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Its report of a failed worker repeats, over dozens of lines, what the worker has printed.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run.main(arguments)
    except SignalException as error:
        print(f"mfm: stopped by signal {error.sigval.name}", file=sys.stderr)
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        if set(codes.values()) != {USER_ERROR_EXIT}:
            listed = ", ".join(f"rank {rank}: exit {code}" for rank, code in sorted(codes.items()))
            print(f"mfm: workers failed ({listed})", file=sys.stderr)
        worst = max(codes.values())
        sys.exit(worst if worst > 0 else 1)


if __name__ == "__main__":
    main()
