"""The code version that every checkpoint and result row carries."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from mfm import __version__

# These read finished results, or show and guard runs: they cannot change a measured number.
_WITHOUT_INFLUENCE = (
    "__main__.py",
    "accuracy_curve.py",
    "check.py",
    "config_errors.py",
    "convert.py",
    "errors.py",
    "export.py",
    "lifetime.py",
    "over_images.py",
    "power.py",
    "plain.py",
    "progress.py",
    "report",
    "schema.py",
    "snapshots.py",
    "start.py",
    "statistics.py",
    "status.py",
    "tensorboard.py",
    "watch.py",
    "weights.py",
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
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] in _WITHOUT_INFLUENCE:
            continue
        digest.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:10]}"
