"""`python -m mfm.start MODULE ARGUMENTS`: `python -m MODULE ARGUMENTS`, started sooner.

Importing torch and timm makes millions of objects that all stay. Python's garbage collector goes
through them again and again meanwhile, and finds nothing: without it, the imports of a stage took
3.5 s instead of 4.4 s. It is back before anything runs.
"""

from __future__ import annotations

import gc
import importlib
import sys


def main() -> None:
    """Command line: see the module's docstring. The module has to have a `main()`."""
    name = sys.argv[1]
    gc.disable()
    module = importlib.import_module(name)
    gc.freeze()  # what the imports left is not looked through again
    gc.enable()
    sys.argv = [str(module.__file__), *sys.argv[2:]]
    module.main()


if __name__ == "__main__":
    main()
