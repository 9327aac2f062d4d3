"""Workflow that the package came with: its files, and the call of Snakemake on them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import mfm
from mfm.errors import UserError
from mfm.settings.messages import closest

_ENDINGS = (".yaml", ".yml", ".json")
_DEFAULT = "default"  # the name of config.yaml
# Snakemake's options that say how much runs at once, or where.
_AMOUNT = re.compile(
    r"(-[cje]|-[cj]\d+|--(cores|jobs|executor|profile|workflow-profile)(=.*)?)", re.ASCII
)


def root() -> Path:
    """The folder with Snakefile, config.yaml, configs/ and profiles/.

    A wheel has them in the package (setup.py); in a checkout they are where the sources are.
    """
    package = Path(mfm.__file__).parent
    inside = package / "checkout"
    return inside if inside.is_dir() else package.parents[1]


def named_configurations() -> dict[str, Path]:
    """The experiments that came along, by name."""
    files = sorted((root() / "configs").glob("*.yaml"))
    return {_DEFAULT: root() / "config.yaml"} | {file.stem: file for file in files}


def configurations(words: Sequence[str]) -> list[Path]:
    """The configurations that words begin with: files, and names of those that came along.

    What follows them is Snakemake's. Raises UserError where there is none.
    """
    named, found = named_configurations(), list[Path]()
    for word in words:
        if word not in named and not word.endswith(_ENDINGS):
            break
        found.append(named.get(word, Path(word)))
    if not found:
        near = closest(words[0], list(named)) if words else None
        given = f"'{words[0]}' is no configuration: " if words else ""
        meant = f"did you mean '{near}'? Else " if near else ""
        raise UserError(
            f"{given}{meant}give a file such as mine.yaml, or one of {', '.join(named)}"
        )
    return found


def command(files: Sequence[Path], words: Sequence[str] = ()) -> list[str]:
    """The command line that runs the experiment of these files, in any folder.

    All cores are used, unless Snakemake's own words say something else.
    """
    # -P: what lies in the folder of the call is nothing to import.
    call = [sys.executable, "-P", "-m", "snakemake", "--configfile", *map(str, files)]
    call += ["--snakefile", str(root() / "Snakefile")]
    has_amount = any(_AMOUNT.fullmatch(word) for word in words)
    return [*call, *([] if has_amount else ["--cores", "all"]), *words]
