"""Start and end of a process: what a short job would spend most of its time on."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType

_COMPILER, _HUB = "torch._dynamo", "huggingface_hub"
# Versions of torch whose compiler can be left out: what torchvision asks of it is known there.
_KNOWN = ("2.11.", "2.12.", "2.13.", "2.14.")


@contextmanager
def importing() -> Iterator[None]:
    """Import modules faster, torch and what stands on it above all.

    They make millions of objects that all stay: Python's garbage collector would go through them
    again and again meanwhile, and find nothing. And they leave out what nothing here uses: torch's
    compiler, which takes a second and which torchvision imports to keep its own functions out of
    compiled programs, and timm's way to the Hugging Face hub. Whoever needs the compiler afterwards
    (DistributedDataParallel) imports it then.
    """
    is_known = version("torch").startswith(_KNOWN) and _COMPILER not in sys.modules
    stand_ins = _without_compiler() if is_known else {}
    if _HUB not in sys.modules:
        stand_ins[_HUB] = None  # as if it weren't installed
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what the imports left is not looked through again
        gc.enable()
        for name in stand_ins:
            del sys.modules[name]


def _without_compiler() -> dict[str, ModuleType | None]:
    """Modules with what torchvision asks of the compiler while it is imported, and no more."""
    compiler, tools = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    compiler.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
    tools.is_compile_supported = lambda device: False  # type: ignore[attr-defined]
    return {module.__name__: module for module in (compiler, tools)}


class QuickEnd:
    """An end without Python's taking apart of all modules, half a second after a training.

    Made before anything else in a process: whatever is registered to run at the exit runs before.
    """

    def __init__(self) -> None:
        self.code: int | None = None  # the process's exit code, as soon as it is known
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)
