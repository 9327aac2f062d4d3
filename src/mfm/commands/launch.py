"""Launch of a training's processes: see `mfm.processes.launch`."""

from mfm.processes.launch import main

__all__ = ["main"]
