"""Start and end of a process: what a short job would spend most of its time on."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType

_COMPILER, _HUB = "torch._dynamo", "huggingface_hub"
# Versions of torch whose compiler can be left out: what is asked of it is known there.
_KNOWN = ("2.11.", "2.12.", "2.13.", "2.14.")


@contextmanager
def importing() -> Iterator[None]:
    """Import modules faster, torch and what stands on it above all.

    They make millions of objects that all stay: Python's garbage collector would go through them
    again and again meanwhile, and find nothing. And they leave out what nothing here uses: torch's
    compiler, and timm's way to the Hugging Face hub.
    """
    no_hub = {} if _HUB in sys.modules else {_HUB: None}  # as if it weren't installed
    gc.disable()
    try:
        with without_compiler(), _standing_in(no_hub):
            yield
    finally:
        gc.freeze()  # what the imports left is not looked through again
        gc.enable()


@contextmanager
def without_compiler() -> Iterator[None]:
    """Leave out torch's compiler, which takes a second or two.

    torchvision imports it to keep its own functions out of compiled programs, and
    DistributedDataParallel when it is made and at its first step, for the same reason.
    """
    is_known = version("torch").startswith(_KNOWN) and _COMPILER not in sys.modules
    with _standing_in(_compiler_of_nothing() if is_known else {}):
        yield


def _compiler_of_nothing() -> dict[str, ModuleType | None]:
    """Modules with what is asked of the compiler where nothing is compiled, and no more."""
    compiler, tools = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    # What is set on a module made here is in no type.
    compiler.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
    compiler.utils = tools  # type: ignore[attr-defined]
    tools.is_compile_supported = lambda device: False  # type: ignore[attr-defined]
    tools.get_optimize_ddp_mode = lambda: "ddp_optimizer"  # type: ignore[attr-defined]
    return {module.__name__: module for module in (compiler, tools)}


@contextmanager
def _standing_in(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """For a while, whoever imports these modules gets them."""
    # None, which types don't foresee, is Python's mark of what isn't to be imported.
    sys.modules.update(modules)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


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
