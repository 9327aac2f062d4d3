"""Launch of a training's processes in a SLURM job: `mfm launch` on each of its nodes.

What the workflow starts instead of `mfm launch` with the profile profiles/slurm:

- With `--nodes N`, `srun` starts one `mfm launch` on each of the job's nodes; they meet by
  torchrun's c10d rendezvous on the node this runs on, the first one.
- With `--requeue`, a run that a signal stopped (exit code 75, after its checkpoint) puts its job
  back into the queue. A job that SLURM itself is ending, or that was cancelled, is left alone.

    mfm slurm --nodes 2 --ranks 16 --threads 64 --gpus 16 --requeue -- \
        --max-restarts 3 -m mfm train --config ...
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from mfm.errors import STOPPED_EXIT, UserError
from mfm.processes.lifetime import STOP_SIGNALS, end_with_parent

# Below the ports that Linux gives to outgoing connections, 32768 and up.
_FIRST_PORT, _PORTS = 10_000, 20_000
# When the first node is done (or dead), the others have this long to end, in seconds: a step and a
# checkpoint. Without it, a step whose node dies silently would wait for its time limit.
_WAIT_SECONDS = 120

Run = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


def launch_command(
    arguments: list[str],
    *,
    nodes: int,
    ranks: int,
    threads: int,
    gpus: int,
    job: str,
    host: str,
) -> list[str]:
    """The command that starts `ranks` processes, evenly on `nodes` nodes of a SLURM job.

    `threads` is the job's CPUs per node, `gpus` its GPUs on all nodes, `host` the node where the
    processes meet. Raises UserError for ranks or GPUs that don't divide by the nodes.
    """
    for name, number in (("ranks", ranks), ("gpu", gpus)):
        if number % nodes:
            raise UserError(f"{name} is {number}, which does not divide by the {nodes} nodes")
    launch = [sys.executable, "-m", "mfm", "launch"]
    if nodes == 1:
        return [*launch, "--standalone", "--nproc-per-node", str(ranks), *arguments]
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    step += [f"--cpus-per-task={threads}", "--export=ALL"]
    if gpus:
        step.append(f"--gpus-per-node={gpus // nodes}")
    # Not at the first bad exit, which would kill a rank that is writing its checkpoint.
    step += ["--kill-on-bad-exit=0", f"--wait={_WAIT_SECONDS}"]
    port = _FIRST_PORT + int(job) % _PORTS
    group = ["--nnodes", str(nodes), "--nproc-per-node", str(ranks // nodes), "--rdzv-id", job]
    group += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:{port}"]
    return [*step, *launch, *group, *arguments]


def requeue(job: str, *, run: Run) -> str:
    """Put a running SLURM job back into the queue; what became of it, in words.

    Only a running one: a job that was cancelled, or that SLURM is requeueing itself, has another
    state by now, and `scontrol requeue` would bring a cancelled job back.
    """
    found = run(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"])
    state = found.stdout.strip()
    if found.returncode or not state:
        return (
            f"its state is unknown ({found.stderr.strip() or 'no answer'}), so it is not requeued"
        )
    if state != "RUNNING":
        return f"it is {state}, so it is not requeued"
    asked = run(["scontrol", "requeue", job])
    if asked.returncode:
        return f"scontrol could not requeue it: {asked.stderr.strip()}"
    return "it is back in the queue and will continue"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _wait_for(command: list[str]) -> int:
    """Exit code of a command, during which this process outlives stop signals.

    SLURM sends them to every process of a step, so the launcher has got its own.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, frame: None)
    # The launcher ends when this process does; so this one ends at once when its parent does.
    end_with_parent(grace_seconds=0)
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    return 128 - code if code < 0 else code


def main(words: list[str]) -> None:
    """Command line: see the module's docstring."""
    if "--" not in words:
        raise UserError("give `mfm launch`'s arguments after '--'")
    parser = argparse.ArgumentParser(
        prog="mfm slurm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1, help="nodes to use, of the job's")
    parser.add_argument("--ranks", type=int, required=True, help="processes, over all nodes")
    parser.add_argument("--threads", type=int, default=1, help="CPUs per node")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs, over all nodes")
    parser.add_argument("--requeue", action="store_true", help="after a stop, queue the job again")
    options = parser.parse_args(words[: words.index("--")])
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise UserError("this is no SLURM job: use --workflow-profile profiles/slurm")
    command = launch_command(
        words[words.index("--") + 1 :],
        nodes=options.nodes,
        ranks=options.ranks,
        threads=options.threads,
        gpus=options.gpus,
        job=job,
        host=socket.gethostname(),
    )
    code = _wait_for(command)
    if code == STOPPED_EXIT and options.requeue:
        print(f"mfm: SLURM job {job}: {requeue(job, run=_run)}", file=sys.stderr, flush=True)
    sys.exit(code)
