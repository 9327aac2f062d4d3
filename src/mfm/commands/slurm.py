"""Launch of a training's processes in a SLURM job: see `mfm.processes.slurm`."""

from mfm.processes.slurm import main

__all__ = ["main"]
