"""Remove the lock that a killed Snakemake left in this folder; `make table` runs this first.

Snakemake cannot know whether the holder of its lock is alive. Here: no process whose working
directory is this folder runs Snakemake, so nobody holds it. The training runs have a lock of their
own, which ends with its process.
"""

import sys
from pathlib import Path

import psutil


def snakemakes_here() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(Path.cwd()) and any(
            Path(word).name == "snakemake" for word in words[:2]
        ):
            found.append(process)
    return found


locks = Path(".snakemake/locks")
if locks.is_dir() and any(locks.iterdir()):
    running = snakemakes_here()
    if running:
        sys.exit(f"Snakemake is already running here (process {running[0].pid}); wait for it.")
    print("Removing the lock of a Snakemake that was killed.")
    for lock in locks.iterdir():
        lock.unlink()
