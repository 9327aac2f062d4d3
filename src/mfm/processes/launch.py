"""Launch of a training's processes: torchrun, fit for a workflow.

Takes torchrun's own arguments and runs torchrun in this process. It differs in this:

- It ends (with its workers) when the workflow that started it is gone.
- SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) are passed on to the workers, which finish their step,
  checkpoint, and end with 75 (`mfm.errors.STOPPED_EXIT`); so does this program then. A second
  Ctrl-C ends all at once.
- A failed worker's exit code becomes its own, and a worker's own error line is not followed by the
  launcher's traceback.
- With `--max-restarts`, a worker that died is replaced as torchrun does it: all ranks start again
  from the last checkpoint. Bad input and a stop are not tried again.
- Its workers get GPUs that no other run has (`mfm.processes.gpus`).
- A group of one on one node (`--standalone --nproc-per-node 1`) needs no group: this process then
  becomes the worker itself, which saves the start of a second one.

    mfm launch --standalone --nproc-per-node 2 -m mfm train --config ...
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mfm.errors import STOPPED_EXIT, USER_ERROR_EXIT
from mfm.processes import gpus
from mfm.processes.lifetime import STOP_SIGNALS, end_with_parent

if TYPE_CHECKING:  # this program shall start without importing torch
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# The C library's allocator gives a large block back to the system when it is freed, and the next
# step asks for it again, page by page. Keeping it made a CPU training step of ResNet-18 at 32 px
# 5 to 25% faster (batch 50 to 128, one thread), and one of ResNet-50 at 224 px, whose larger blocks
# MALLOC_MMAP_MAX_ concerns, more. It reads these when a process starts.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest it accepts
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
    "MALLOC_MMAP_MAX_": "0",
}
# What torchrun ends its workers on; and for how long it then waits before it kills them: a step and
# a checkpoint.
_GROUP_OPTIONS = ("--signals-to-handle", "SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT")
_SHUTDOWN_SECONDS = int(os.environ.get("MFM_SHUTDOWN_SECONDS", "120"))
_FINAL_EXITS = (USER_ERROR_EXIT, STOPPED_EXIT)


def main(arguments: list[str]) -> None:
    """Command line: see the module's docstring."""
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    worker = _worker_of_one(arguments)
    if worker is not None:
        os.execv(sys.executable, [sys.executable, *worker])
    end_with_parent()
    _run_group(arguments)


def _worker_of_one(arguments: list[str]) -> list[str] | None:
    """The only worker's arguments, where the group is one process on one node."""
    options = arguments[: arguments.index("-m")] if "-m" in arguments else arguments
    # Another process can't wait for this one, so it is left to its caller to start it again.
    alone = ["--standalone", "--nproc-per-node", "1"]
    if options == alone or (options[:3] == alone and options[3:4] == ["--max-restarts"]):
        return arguments[len(options) :]
    return None


def _run_group(arguments: list[str]) -> None:
    # A store of their own for every start of the ranks. The launcher's, which torchrun would share,
    # still holds the addresses of ranks that died: those started again then wait for the dead.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    from torch.distributed import run
    from torch.distributed.elastic.agent.server import local_elastic_agent
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api

    ranks = run.parse_args(arguments).nproc_per_node  # type: ignore[no-untyped-call]
    if ranks.isdecimal():  # and not 'gpu', all of them
        gpus.take(int(ranks), group=True)

    class Agent(local_elastic_agent.LocalElasticAgent):
        """torchrun's agent, which doesn't repeat what can't get better."""

        def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
            result: RunResult = super()._monitor_workers(worker_group)
            codes = {failure.exitcode for failure in result.failures.values()}
            if codes & set(_FINAL_EXITS):
                self._remaining_restarts = 0
            elif result.state == WorkerState.FAILED and self._remaining_restarts > 0:
                print(
                    f"mfm: a worker failed ({_listed(result.failures)}); starting all ranks again, "
                    f"{self._remaining_restarts - 1} restarts left",
                    file=sys.stderr,
                    flush=True,
                )
            return result

        def _stop_workers(self, worker_group: WorkerGroup) -> None:
            super()._shutdown()  # after a failure, with torchrun's own patience

        def _shutdown(
            self, death_sig: signal.Signals = signal.SIGTERM, *_: object, **__: object
        ) -> None:
            if death_sig == signal.SIGINT:
                # The workers end with this process, see end_with_launcher.
                signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
            if self._pcontext is not None:  # torchrun's option for it is newer than torch 2.11
                self._pcontext.close(death_sig, _SHUTDOWN_SECONDS)
            super()._shutdown(death_sig)

    # torchrun offers no other way to give it an agent; the name is imported there, not exported.
    api.LocalElasticAgent = Agent  # type: ignore[attr-defined]
    # Its report of a failed worker repeats, over dozens of lines, what the worker has printed.
    for name in ("", ".agent.server.api", ".multiprocessing.api"):
        logging.getLogger(f"torch.distributed.elastic{name}").setLevel(logging.CRITICAL)
    try:
        run.main([*_GROUP_OPTIONS, *arguments])
    except SignalException as error:
        if error.sigval not in STOP_SIGNALS:
            print(f"mfm: stopped by {error.sigval.name}", file=sys.stderr)
            sys.exit(128 + error.sigval)
        sys.exit(STOPPED_EXIT)
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        if not codes & set(_FINAL_EXITS):
            print(f"mfm: workers failed ({_listed(error.failures)})", file=sys.stderr)
        final = [code for code in _FINAL_EXITS if code in codes]
        sys.exit(final[0] if final else max(1, *codes))


def _listed(failures: Mapping[int, ProcessFailure]) -> str:
    return ", ".join(
        f"rank {rank}: exit {failure.exitcode}" for rank, failure in sorted(failures.items())
    )
