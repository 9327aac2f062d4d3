"""The results folder has one owner, which finds what it spelled."""

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm.experiment.jobs import FinetuneJob, PretrainJob
from mfm.experiment.layout import Layout, locate, runs, variant_folder

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,12}", fullmatch=True)
folders = st.one_of(st.just(""), st.builds(variant_folder, names, names))
results = st.sampled_from(
    ["results", "results/", "a/b.c/results", "/x/results", "../other", ".", "/", "finetune"]
)


@given(results=results, folder=folders, arm=names, seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_a_model_is_found_by_its_path(results, folder, arm, seed):
    layout = Layout(results)
    path = layout.finetuning(arm, seed, folder=folder).weights
    found = locate(path)
    assert found is not None
    assert (found.folder, found.arm, found.seed) == (folder, arm, seed)
    assert Path(found.layout.results or "/") == Path(results)
    assert Path(found.run.weights) == Path(path)
    row = layout.evaluation(arm, seed, folder=folder).row
    assert Path(found.evaluation.row) == Path(row)


@pytest.mark.parametrize(
    "folder", ["", "variants/loss/bce/", "variants/label-efficiency/10.5_per-class/"]
)
@pytest.mark.parametrize("arm", ["mfm", "mfm-long", "mfm.v2", "seed3", "finetune", "variants"])
@pytest.mark.parametrize("results", ["results", "deep/er/results-2", "/abs.olute/results"])
def test_arms_with_dots_and_dashes_in_every_folder(results, arm, folder):
    path = f"{results}/{folder}finetune/{arm}/seed12/model.safetensors"
    assert Layout(results).finetuning(arm, 12, folder=folder).weights == path
    found = locate(path)
    assert (found.layout.results, found.folder, found.arm, found.seed) == (results, folder, arm, 12)
    assert found.run == Layout(results).finetuning(arm, 12, folder=folder)
    assert found.evaluation.predictions == f"{results}/{folder}evaluate/{arm}/seed12.parquet"


@pytest.mark.parametrize(
    "path",
    [
        "model.safetensors",
        "somewhere/model.safetensors",
        "finetune/model.safetensors",
        "results/pretrain/mfm/seed0/backbone.safetensors",
        "results/finetune/mfm/model.safetensors",
        "results/finetune/mfm/seed/model.safetensors",
        "results/finetune/mfm/seedx/model.safetensors",
        "results/finetune/mfm/7/model.safetensors",
        "",
    ],
)
def test_a_model_elsewhere_is_nobodys(path):
    assert locate(path) is None


def test_a_run_leaves_what_the_layout_expects():
    names = [
        (PretrainJob, Layout("r").pretraining("p", 0).weights),
        (FinetuneJob, Layout("r").finetuning("a", 0).weights),
    ]
    for job, path in names:
        assert job.weights_file.fget(None) == Path(path).name


def test_wildcards_stand_for_names():
    layout = Layout("results")
    pattern = layout.finetuning("{arm}", "{seed}", folder="{folder}").weights
    filled = pattern.format(folder="variants/a/b/", arm="mfm", seed=3)
    assert filled == layout.finetuning("mfm", 3, folder="variants/a/b/").weights


def test_a_slash_at_the_end_of_the_results_is_none():
    assert Layout("a/b/") == Layout("a/b")
    assert Layout("a/b/").rows == "a/b/results.csv"


def test_links_are_relative_to_the_results():
    layout = Layout("deep/results")
    assert layout.relative(layout.figure("curves")) == "figures/curves.svg"
    assert layout.relative("other/file.pth") == "other/file.pth"
    assert Layout("/abs").relative("/abs/x/y.md") == "x/y.md"


def test_all_files_lie_below_the_results():
    layout = Layout("here")
    run, evaluation = layout.finetuning("a", 0), layout.evaluation("a", 0, name="bands")
    spelled = [getattr(run, name) for name in dir(run) if not name.startswith("_")]
    spelled += [getattr(evaluation, name) for name in dir(evaluation) if not name.startswith("_")]
    spelled += [layout.weights("a"), layout.variants("s"), layout.evaluation_config(name="bands")]
    assert all(path.startswith("here/") for path in spelled)
    assert len(set(spelled)) == len(spelled)


def test_runs_are_all_that_have_settings(tmp_path):
    layout = Layout(str(tmp_path))
    expected = [
        layout.pretraining("p", 0).folder,
        layout.pretraining("p", 1, folder="variants/s/v/").folder,
        layout.finetuning("a", 0).folder,
        layout.finetuning("a", 1, folder="variants/s/v/").folder,
    ]
    for folder in expected:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.json").touch()
    Path(layout.finetuning("a", 2).folder).mkdir()  # not begun
    Path(layout.evaluation_config()).parent.mkdir()
    Path(layout.evaluation_config()).touch()
    assert runs(tmp_path) == sorted(Path(folder) for folder in expected)


# Nobody else spells a path

SPELLED = re.compile(r"(^|[/}])(finetune|pretrain|evaluate|variants)/|results\.csv")
LOG = "name of a job's log or benchmark, which the layout puts below its folder of those"
HELP = "text for people"
EXCEPTIONS = {
    ("src/mfm/commands/export.py", "results.csv (default: the one above)"): HELP,
    ("src/mfm/reporting/model_card.py", "not known here: no results.csv has rows of it"): HELP,
    ("workflow/rules/common.smk", "evaluate/deleted.txt"): "a note of the rules alone",
    ("workflow/rules/train.smk", "pretrain/{pretraining}/seed{seed}.pictures"): LOG,
    ("workflow/rules/train.smk", "{folder}finetune/{arm}/seed{seed}.config"): LOG,
    ("workflow/rules/train.smk", "{folder}pretrain/{pretraining}/seed{seed}.config"): LOG,
    ("workflow/rules/variants.smk", "variants/{study}"): LOG,
}


def texts(path):
    """Strings of a Python file, docstrings left out; of an f-string '{}' for what is put in."""
    tree = ast.parse(path.read_text())
    said = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said.add(node.value)  # a docstring
    inside = {part for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in ast.walk(n)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in said
            and node not in inside
        ):
            yield node.value


def rule_texts(path):
    """The same of a rule file: its quoted strings, comments left out."""
    code = "\n".join(line for line in path.read_text().splitlines() if line.strip()[:1] != "#")
    code = re.sub(r'""".*?"""', "", code, flags=re.S)
    return re.findall(r'"([^"\n]*)"', code)


def test_only_the_layout_spells_a_path():
    found = set()
    for path in sorted((ROOT / "src/mfm").rglob("*.py")):
        if path != ROOT / "src/mfm/experiment/layout.py":
            found |= {(path.relative_to(ROOT).as_posix(), text) for text in texts(path)}
    for path in sorted((ROOT / "workflow").rglob("*")):
        if path.suffix == ".py":
            found |= {(path.relative_to(ROOT).as_posix(), text) for text in texts(path)}
        elif path.suffix == ".smk" or path.name == "Snakefile":
            found |= {(path.relative_to(ROOT).as_posix(), text) for text in rule_texts(path)}
    found = {(file, text) for file, text in found if SPELLED.search(text)}
    assert not found - EXCEPTIONS.keys()
