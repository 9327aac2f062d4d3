"""Names of torchvision's datasets, and what its files say of each, without importing it.

An import takes seconds, and the name is checked at each start of the workflow.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from mfm.errors import UserError
from mfm.settings.messages import nearest

TORCHVISION = "torchvision/"
# The names that torchvision's classes have for ours, the first that a class knows is taken.
SPLITS = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid", "test"),
}


@dataclass(frozen=True)
class Description:
    """What a dataset's class takes."""

    options: frozenset[str]
    splits: frozenset[str]  # values of `split=`, where the class spells them out
    downloads: bool


def check_name(name: str, *, found_elsewhere: bool) -> None:
    """Raise UserError for a name that torchvision has no dataset of, and for one without splits.

    Also, unless its files are somewhere, for one that torchvision doesn't download.
    """
    known = names()
    if name not in known:
        raise UserError(
            f"dataset.source: torchvision has no dataset '{name}'{nearest(name, list(known))}"
        )
    described = _describe(name, known[name])
    if described is None:
        return
    own = {"train", "split"} & described.options
    lacks = described.splits and not all(described.splits & set(each) for each in SPLITS.values())
    if not own or (lacks and "train" not in own):
        raise UserError(
            f"dataset.source: {TORCHVISION}{name} has no training and evaluation images of its "
            "own: export it into train/<class>/ and val/<class>/ yourself"
        )
    if not described.downloads and not found_elsewhere:
        raise UserError(
            f"dataset.source: torchvision does not download {name}: set dataset.archives to the "
            f"folder with its files, for which torchvision.datasets.{name}(root) works"
        )


def names() -> dict[str, str]:
    """All datasets, and the module that each is in."""
    tree = ast.parse((_folder() / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _folder() -> Path:
    package = importlib.util.find_spec("torchvision")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets"


def _describe(name: str, module: str) -> Description | None:
    """None for what is no class of that module."""
    tree = ast.parse((_folder() / f"{module}.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    options: set[str] = set()
    splits: set[str] = set()
    downloads = True
    kind: ast.ClassDef | None = classes.get(name)
    if kind is None:
        return None
    passes_on = True
    while kind is not None and passes_on:
        methods = {node.name: node for node in kind.body if isinstance(node, ast.FunctionDef)}
        create = methods.get("__init__")
        if create is not None:
            given = create.args
            options |= {each.arg for each in (*given.args, *given.kwonlyargs)}
            splits |= _split_values(create)
            passes_on = given.kwarg is not None
        if "download" in methods:
            downloads = downloads and not isinstance(methods["download"].body[-1], ast.Raise)
        bases = [base.id for base in kind.bases if isinstance(base, ast.Name)]
        kind = next((classes[base] for base in bases if base in classes), None)
    return Description(frozenset(options), frozenset(splits), downloads and "download" in options)


def _split_values(create: ast.FunctionDef) -> set[str]:
    """The values that torchvision's check of `split` names."""
    for node in ast.walk(create):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "verify_str_arg":
            given = [*node.args, *(each.value for each in node.keywords)]
            if not any(getattr(each, "value", None) == "split" for each in given[1:2]):
                continue
            for each in given[2:3]:
                if isinstance(each, ast.Tuple | ast.List):
                    values = (getattr(value, "value", None) for value in each.elts)
                    return {value for value in values if isinstance(value, str)}
    return set()
