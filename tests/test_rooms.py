"""The house: which room may import which, and how large a function may be."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

from mfm import version

PACKAGE = ROOT / "src/mfm"
# From the ground up: a room imports only itself and rooms before it.
ROOMS = (
    "__init__",
    "errors",
    "version",
    "settings",
    "files",
    "numerics",
    "processes",
    "statistics",
    "data",
    "models",
    "training",
    "objectives",
    "evaluation",
    "experiment",
    "reporting",
    "planning",
    "calling",
    "commands",
    "convert",
    "__main__",
)
# `from mfm import Experiment`: imported when it is asked for.
OFFERED = ("mfm", "mfm.calling.experiment")
# What no measured number depends on, and why.
NOT_IN_THE_VERSION = {
    "__init__": "the release number, which the version begins with",
    "errors": "how a program ends on an error",
    "version": "the version itself",
    "statistics": "reads finished results",
    "reporting": "reads finished results",
    "planning": "writes a configuration",
    "calling": "calls Snakemake",
    "commands": "passes arguments on to the rooms below",
    "convert": "another name of a command",
    "__main__": "calls a command",
}
LARGEST_FUNCTION, MOST_PARAMETERS = 80, 8
# Functions that are larger, as 'file: name', each with its reason.
LARGER: dict[str, str] = {}


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module):
    return ast.parse(FILES[module].read_text())


@cache
def imported(module):
    """Files of the package that a file imports: at its top, in functions, for types alone."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in FILES else str(node.module))
    return {name for name in found if name.split(".")[0] == "mfm"}


def room(module):
    return module.split(".")[1] if "." in module else "__init__"


def test_every_file_is_in_a_room():
    assert {room(module) for module in FILES} == set(ROOMS)


def test_every_import_is_of_a_file():
    wrong = {(m, name) for m in FILES for name in imported(m) if name not in FILES}
    assert not wrong


def test_rooms_import_rooms_below_them():
    wrong = [
        f"{module} imports {name}"
        for module in FILES
        for name in sorted(imported(module))
        if ROOMS.index(room(name)) > ROOMS.index(room(module)) and (module, name) != OFFERED
    ]
    assert not wrong


def test_no_circle_of_files():
    try:
        list(
            TopologicalSorter(
                {module: imported(module) - {"mfm"} for module in FILES}
            ).static_order()
        )
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_entrance_is_small():
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert len(modules) <= 5, modules
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(packages) <= 15, packages


def test_the_package_never_imports_snakemake():
    for module in FILES:
        names = {
            name
            for node in ast.walk(tree(module))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not [name for name in names if name.split(".")[0].startswith("snakemake")], module


def test_settings_are_read_and_reports_made_without_torch():
    program = (
        "import sys, mfm.experiment.settings, mfm.experiment.variants, mfm.experiment.preflight\n"
        "import mfm.reporting.table, mfm.reporting.figures.draw, mfm.reporting.page.build\n"
        "print([name for name in ('torch', 'timm', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_version_is_of_all_that_can_change_a_number():
    assert not set(version.FOLDERS) & set(NOT_IN_THE_VERSION)
    assert set(version.FOLDERS) | set(NOT_IN_THE_VERSION) == set(ROOMS)
    # What is outside is imported by nothing inside, but for what every program needs.
    outside = set(NOT_IN_THE_VERSION) - {"__init__", "errors", "version"}
    for module in FILES:
        if room(module) in version.FOLDERS:
            assert not {room(name) for name in imported(module)} & outside, module


def test_the_version_changes_with_a_file(tmp_path, monkeypatch):
    for folder in version.FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("")
    monkeypatch.setattr(version, "__file__", str(tmp_path / "version.py"))
    found = []
    for folder in (None, *version.FOLDERS):
        if folder is not None:
            (tmp_path / folder / "a.py").write_text("changed")
        found.append(version.code_version.__wrapped__())
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("module", FILES)
def test_a_file_says_what_it_is(module):
    said = ast.get_docstring(tree(module))
    assert said
    assert not said.startswith("`"), "begin with what it is: a noun"


def functions(module):
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            own = [each for each in every if each.arg not in ("self", "cls")]
            yield node.name, len(own), node.end_lineno - node.lineno + 1


def test_functions_are_small():
    large = {
        f"{FILES[module].relative_to(PACKAGE)}: {name}": f"{parameters} parameters, {lines} lines"
        for module in FILES
        for name, parameters, lines in functions(module)
        if parameters > MOST_PARAMETERS or lines > LARGEST_FUNCTION
    }
    assert large.keys() == LARGER.keys(), large
