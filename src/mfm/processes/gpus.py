"""GPUs of this machine, shared out among the runs on it: each run has its own.

`take` chooses free ones of those that CUDA_VISIBLE_DEVICES leaves (without it: all), and names them
there for this process and its children. A GPU is taken by a lock on a file of the machine's, so
runs of several workflows, checkouts and users know of each other. Each process that computes holds
the lock itself, and the kernel drops it with the process, however that ends.

`MFM_RUNS_PER_GPU=8` lets eight runs of one process each share a GPU. Where nvidia-smi lists no GPU,
nothing is done.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mfm.errors import STOPPED_EXIT, UserError
from mfm.processes import devices
from mfm.processes.lifetime import STOP_SIGNALS, StopRequest

# Not the user's own temporary folder: who shares the machine shares this one.
FOLDER = Path("/tmp/mfm-gpus")
_TOLD_AFTER_SECONDS = 3.0
_OF_GROUP = "MFM_GPUS_OF_GROUP"  # from a launcher to its ranks
_HELD: list[int] = []  # open files of the locks, and of their folder

Part = tuple[int, int]  # of a lock's file: length and start; a length of 0 is all


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, or an instance of one that is divided (MIG)."""

    uuid: str
    index: int  # as nvidia-smi counts
    model: str
    divided: bool = False


def machine_gpus() -> list[Gpu]:
    """What nvidia-smi lists; instances in place of a GPU that is divided into some."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    answer = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    if answer.returncode:
        said = " ".join((answer.stdout + answer.stderr).split())
        print(f"mfm: note: nvidia-smi finds no GPU: {said}", file=sys.stderr, flush=True)
        return []
    gpus, whole = list[Gpu](), None
    for line in answer.stdout.splitlines():
        if found := re.match(r"GPU (\d+): (.*) \(UUID: (\S+)\)", line):
            whole = Gpu(uuid=found[3], index=int(found[1]), model=found[2])
            gpus.append(whole)
        elif whole and (found := re.match(r"\s+MIG .*\(UUID: (\S+)\)", line)):
            if gpus[-1] == whole:
                gpus.pop()
            gpus.append(Gpu(uuid=found[1], index=whole.index, model=whole.model, divided=True))
    return gpus


def visible_gpus() -> list[Gpu]:
    """The machine's GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; none for `device: cpu`."""
    if devices.asked() == "cpu":
        return []
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return machine_gpus()
    names = [name.strip() for name in asked.split(",")]
    if names[0] in ("", "-1", "NoDevFiles"):  # the last is what SLURM says of none
        return []
    gpus = machine_gpus()
    if not gpus:
        return []
    counted = any(name.isdecimal() for name in names)
    order = os.environ.get("CUDA_DEVICE_ORDER")
    if counted and order != "PCI_BUS_ID" and len({gpu.model for gpu in gpus}) > 1:
        raise UserError(
            "the GPUs here are of several kinds, which CUDA counts otherwise than nvidia-smi: "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID too, or name UUIDs in CUDA_VISIBLE_DEVICES"
        )
    found = dict[str, Gpu]()
    for name in names:
        named = [gpu for gpu in gpus if _is_named(gpu, name)]
        if not named:
            raise UserError(
                f"CUDA_VISIBLE_DEVICES names {name}, which nvidia-smi -L doesn't list here"
            )
        found |= {gpu.uuid: gpu for gpu in named}
    return list(found.values())


def _is_named(gpu: Gpu, name: str) -> bool:
    if name.isdecimal():
        return gpu.index == int(name)
    return bool(name) and gpu.uuid.startswith(name)


def runs_per_gpu() -> int:
    """How many runs of one process each may share a GPU."""
    value = os.environ.get("MFM_RUNS_PER_GPU", "1")
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"MFM_RUNS_PER_GPU is {value}: set a number from 1 up")
    return int(value)


def runs_at_once() -> int | None:
    """How many runs of one process each the GPUs here take; None where there are none.

    For the limit of Snakemake's resource `gpu`. What is wrong with a variable the runs say.
    """
    try:
        return len(visible_gpus()) * runs_per_gpu() or None
    except UserError:
        return None


def share(ranks: int) -> int:
    """What a run takes of `runs_at_once`: a group of ranks has its GPUs alone."""
    return 1 if ranks == 1 else ranks * runs_per_gpu()


def check(ranks: int) -> None:
    """Raises UserError where the GPUs here are fewer than a run's processes."""
    _usable(visible_gpus(), ranks)


def _usable(gpus: list[Gpu], ranks: int) -> list[Gpu]:
    usable = gpus if ranks == 1 else [gpu for gpu in gpus if not gpu.divided]
    if gpus and len(usable) < ranks:
        kind = "undivided GPUs" if len(usable) < len(gpus) else "GPUs"
        raise UserError(
            f"ranks is {ranks}, more than the {kind} here ({len(usable)}): lower ranks, or set "
            "CUDA_VISIBLE_DEVICES= to compute on the CPU"
        )
    return usable


def take(ranks: int = 1, *, group: bool = False, folder: Path = FOLDER) -> None:
    """Take a GPU for each of `ranks` processes, for this one or for the `group` that it starts.

    Waits until so many are free. To be called once, before CUDA starts. In a SLURM job that has no
    more GPUs than are needed, SLURM has chosen.
    """
    visible = visible_gpus()
    gpus = _usable(visible, ranks)
    if not gpus or ("SLURM_JOB_ID" in os.environ and len(gpus) <= ranks):
        return
    runs = 0 if group else runs_per_gpu()
    parts = [(1, run) for run in range(runs)] if runs > 1 else [(0, 0)]
    try:
        _make_shared(folder)
        taken = _try_to_take(gpus, ranks, parts=parts, folder=folder)
        if taken is None:
            taken = _wait(gpus, ranks, parts=parts, folder=folder)
    except OSError as error:
        raise UserError(f"runs share out GPUs by files in {folder}: {error}") from error
    uuids = ",".join(gpu.uuid for gpu in taken)
    if len(taken) < len(visible):
        os.environ["CUDA_VISIBLE_DEVICES"] = uuids
    if group:
        os.environ[_OF_GROUP] = uuids


def join(*, folder: Path = FOLDER) -> None:
    """In a rank: hold its launcher's GPUs too, which stay taken until the last rank has ended."""
    for uuid in filter(None, os.environ.get(_OF_GROUP, "").split(",")):
        file = _open(_lock_file(folder, uuid))
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        _HELD.append(file)


def held() -> bool:
    """Whether this process has taken GPUs."""
    return bool(_HELD)


def _wait(gpus: Sequence[Gpu], ranks: int, *, parts: Sequence[Part], folder: Path) -> list[Gpu]:
    began, told = time.monotonic(), False
    with _stops() as stop:
        while (taken := _try_to_take(gpus, ranks, parts=parts, folder=folder)) is None:
            if not told and time.monotonic() - began > _TOLD_AFTER_SECONDS:
                told = True
                print(
                    f"mfm: note: waiting for {ranks} free of {len(gpus)} GPUs; they are held by "
                    f"{_holders(gpus, folder)}",
                    file=sys.stderr,
                    flush=True,
                )
            if stop.received:
                sys.exit(STOPPED_EXIT)
            time.sleep(0.5)
    return taken


@contextmanager
def _stops() -> Iterator[StopRequest]:
    """What stops a run later stops its wait."""
    before = [(number, signal.getsignal(number)) for number in STOP_SIGNALS]
    stop = StopRequest()
    stop.catch_signals()
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _try_to_take(
    gpus: Sequence[Gpu], ranks: int, *, parts: Sequence[Part], folder: Path
) -> list[Gpu] | None:
    """Lock `ranks` of these GPUs, or none.

    A run that shares a GPU locks one byte of its file, others the whole file. A lock is taken
    alone, and then held as one that this run's ranks can share. These are locks of a process: its
    children don't inherit them, and closing the file drops them.
    """
    files = {gpu: _open(_lock_file(folder, gpu.uuid)) for gpu in gpus}
    taken = dict[Gpu, Part]()
    gate = _open(folder / "one-at-a-time")
    try:
        fcntl.lockf(gate, fcntl.LOCK_EX)
        for gpu, file in sorted(files.items(), key=lambda item: -_free(item[1], parts)):
            for part in parts:  # of the GPU that has most of them free
                if gpu not in taken and len(taken) < ranks and _try_lock(file, part):
                    taken[gpu] = part
        if len(taken) < ranks:
            taken = {}
        for gpu, part in taken.items():
            fcntl.lockf(files[gpu], fcntl.LOCK_SH | fcntl.LOCK_NB, *part)
    finally:
        for gpu, file in files.items():
            if gpu not in taken:
                os.close(file)
        os.close(gate)
    if not taken:
        return None
    _HELD.extend(files[gpu] for gpu in taken)
    # systemd-tmpfiles removes what is old in /tmp, but nothing below a folder with such a lock.
    _HELD.append(os.open(folder, os.O_RDONLY))
    with suppress(OSError):  # not every file system locks folders
        fcntl.flock(_HELD[-1], fcntl.LOCK_SH | fcntl.LOCK_NB)
    return list(taken)


def _try_lock(file: int, part: Part) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *part)
    except (BlockingIOError, PermissionError):  # POSIX allows both
        return False
    return True


def _free(file: int, parts: Sequence[Part]) -> int:
    """How many parts nobody has locked; this process, which locks them to see, has none."""
    free = [part for part in parts if _try_lock(file, part)]
    for part in free:
        fcntl.lockf(file, fcntl.LOCK_UN, *part)
    return len(free)


def _make_shared(folder: Path) -> None:
    """A folder that every user of the machine can write into, as /tmp."""
    with _open_to_all(), suppress(FileExistsError):
        folder.mkdir(0o1777)


def _open(path: Path) -> int:
    """A file that every user of the machine can lock."""
    while True:
        # Linux refuses O_CREAT for another user's file in a folder as /tmp.
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with _open_to_all(), suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL, 0o666)


@contextmanager
def _open_to_all() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _lock_file(folder: Path, uuid: str) -> Path:
    return folder / uuid.replace("/", "_")  # as old drivers name instances


def _holders(gpus: Sequence[Gpu], folder: Path) -> str:
    """Who holds locks on these GPUs, as far as the kernel tells."""
    inodes = {str(_lock_file(folder, gpu.uuid).stat().st_ino) for gpu in gpus}
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        locks = []
    pids = {
        int(words[4])
        for words in locks
        if words[1] == "POSIX" and words[5].split(":")[-1] in inodes
    }
    known = sorted(pid for pid in pids if pid > 0)  # one of another container has no number here
    return f"processes {', '.join(map(str, known))}" if known else "others"
