"""Version of the code, which every checkpoint and result row carries."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from mfm import __version__

# Folders that can change a measured number. Outside are what reads finished results (`reporting`,
# `statistics`) and what passes arguments on (`commands`).
FOLDERS = (
    "data",
    "evaluation",
    "experiment",
    "files",
    "models",
    "numerics",
    "objectives",
    "processes",
    "settings",
    "training",
)


@functools.cache
def code_version() -> str:
    """Release number and a hash of the sources that can change a measured number.

    Snakemake does not rerun a finished training because `src/mfm` changed (only the command
    counts), so the table compares this string between rows and warns when it differs. It is a
    hash and not a commit, so that it also works in an installed copy and in a dirty checkout.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for folder in FOLDERS for path in (package / folder).rglob("*.py")):
        name = path.relative_to(package).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:10]}"
