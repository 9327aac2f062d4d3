"""Environment of a run: hardware and versions, besides its configuration and our own code."""

from __future__ import annotations

import platform
from importlib import import_module
from pathlib import Path

import PIL
import timm
import torch
import torchvision


def versions(loader: str) -> dict[str, str]:
    """Versions of what decodes, augments and computes; '-' for DALI where it is not used."""
    dali = import_module("nvidia.dali").__version__ if loader == "dali" else "-"
    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "pillow": PIL.__version__,
        "dali": dali,
    }


def hardware(device: torch.device) -> str:
    """The GPU's or the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"GPU of an Apple {platform.machine()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
