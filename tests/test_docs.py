"""The manual: its commands can be given, its examples run, its links lead somewhere."""

import argparse
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import calls
import numpy as np
import pyarrow as pa
import pytest
import torch
import torchvision
import yaml
from conftest import ROOT

from mfm.data.linking.manifest import Images
from mfm.evaluation.frozen import features_file
from mfm.experiment.settings import Experiment
from mfm.settings.section import parse

BIN = Path(sys.executable).parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
# Commands that no test gives, each with the reason. All others are run, dry or for real.
EXCEPTIONS = {
    r"(mfm/bin/)?pip install ": "needs the package index",
    r"python3 -m venv mfm": "makes the environment for it",
    r"snakemake --sdm conda": "needs conda; tests/test_environment.py makes it where there is one",
    r"srun ": "needs a cluster; it is what a job does, and tests/test_slurm.py has its text",
    r"snakemake --workflow-profile profiles/slurm ": "needs a cluster; `make test-slurm` gives it",
    r"python -c 'import torch, torchvision; ": "writes 100 MB; its file is made smaller here",
    r"python tests/tiny_imagenet.py ": "writes images; tests/test_imagenet_workflow.py runs it",
    r"\.venv/bin/pre-commit install": "changes the checkout's hooks",
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str  # the file that it is, or ''
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Its fenced blocks, also those in a list."""
    text = page.read_text()
    fence = re.compile(r'^( *)```(\w*)(?: title="([^"]*)")?\n(.*?)^\1```$', re.M | re.S)
    return [
        Block(
            page=page,
            line=text[: found.start()].count("\n") + 1,
            language=found[2],
            title=found[3] or "",
            text=re.sub(f"^{found[1]}", "", found[4], flags=re.M),
        )
        for found in fence.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(page: Path) -> list[str]:
    """Its commands: each of its shell blocks, and what stands in its tables and lines."""
    found = []
    for block in blocks_of(page):
        if block.language == "sh":
            lines = block.text.replace("\\\n", " ").splitlines()
            found += [re.sub(r" +# .*", "", line) for line in lines if not line.startswith("#")]
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    found += re.findall(r"`((?:snakemake|make|mfm [\w-]+) [^`<>]+)`", text)
    return [" ".join(command.split()) for command in found if command.strip()]


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands_of(page)))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a call of Snakemake needs, with what the pages tell a reader to bring."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "profiles", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "Snakefile", "config.yaml", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for split, label in itertools.product(("train", "val"), range(10)):
        names = folder / "imagenet" / split / f"n{label}"
        names.mkdir(parents=True)
        for number in range(420):  # names are what a dry run looks at; batches are up to 4096
            (names / f"{number}.JPEG").touch()
    (folder / "tiny-imagenet").symlink_to("imagenet")
    for path in (folder / "configs").glob("*.yaml"):
        path.write_text(path.read_text().replace("/path/to/imagenet", "imagenet"))
    mine = yaml.safe_load((ROOT / "configs/tiny.yaml").read_text()) | {"results": "results/mine"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    torch.save(torchvision.models.resnet50().state_dict(), folder / "stand-in.pth")
    return folder


def dry_run(command: str, checkout: Path) -> None:
    """Give the command as far as it does nothing; an error where it can't be given."""
    words = shlex.split(command)
    settings = {}
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        name, _, value = words.pop(0).partition("=")
        settings[name] = value
    if words[0] == "mfm":
        parse_words(words[1:])
        return
    if words[0] == "snakemake" and "--unlock" not in words:
        words[1:1] = ["--dry-run"]
        words[1:1] = [] if "--cores" in words else ["--cores", "1"]
    elif words[0] == "make":
        words.insert(1, "--dry-run")
    elif words[:3] == ["python", "-m", "pytest"]:
        assert (ROOT / words[3]).is_file() or words[3] in {block.title for block in BLOCKS}
        return
    elif words[:2] == ["mkdocs", "build"]:
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"PATH": f"{BIN}:{os.environ['PATH']}"} | settings).items():
            patch.setenv(name, value)
        if words[0] == "snakemake":
            done = calls.snakemake(*words[1:], cwd=checkout)
        else:
            done = subprocess.run(words, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


class ParsedError(Exception):
    """Raised in the place of what a command does."""


def parse_words(words: list[str]) -> None:
    """Let a command read its words, and do nothing."""
    if words[0] in ("--help", "COMMAND") or "--help" in words:
        return
    read = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        read(self, args, namespace)
        raise ParsedError

    module = import_module(f"mfm.commands.{words[0].replace('-', '_')}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(ParsedError):
            module.main(words[1:])


@pytest.mark.processes
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_can_be_given(command, checkout):
    if not any(re.match(pattern, command) for pattern in EXCEPTIONS):
        dry_run(command, checkout)


def test_each_exception_is_a_command_of_a_page():
    for pattern in EXCEPTIONS:
        assert any(re.match(pattern, command) for command in COMMANDS), pattern


@pytest.mark.processes
def test_the_workflow_is_used_as_a_module_as_its_page_says(tmp_path):
    (text,) = (block.text for block in BLOCKS if block.language == "snakemake")
    (tmp_path / "Snakefile").write_text(text.replace("path/to/mfm", str(ROOT)))
    shutil.copy(ROOT / "configs/tiny.yaml", tmp_path / "mine.yaml")
    dry_run("snakemake mfm_finetunings", tmp_path)


def check_part(text: str) -> None:
    """A part of a configuration, laid over config.yaml; or of a profile."""
    part = yaml.safe_load(text)
    if part.keys() <= {"set-resources", "set-threads"}:
        rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
        for rule in (name for section in part.values() for name in section):
            assert re.search(rf"^ *(use )?rule (\w+ as )?{rule}\b", rules, re.M), rule
        return
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    whole = laid_over(values, part)
    if "arms" in part:  # its own, and what is asked about the others is not asked
        whole |= {"arms": part["arms"], "question": part.get("question")}
    parse(Experiment, whole, where="config.yaml with the block")


def laid_over(values: dict, part: dict) -> dict:
    """As Snakemake lays one configuration over another."""
    both = dict(values)
    for key, value in part.items():
        below = values.get(key)
        deeper = isinstance(value, dict) and isinstance(below, dict)
        both[key] = laid_over(below, value) if deeper else value
    return both


def leave_features(path: Path):
    """A file of frozen features, which an example reads."""
    path.parent.mkdir(parents=True)
    numbers = np.arange(3)
    images = Images(
        Path(),
        ("a", "b"),
        pa.array(["x", "y", "z"]),
        numbers,
        np.array([0, 1, 1]),
        numbers,
        numbers,
    )
    part = ("train", images, numbers, np.ones((3, 4), np.float32))
    features_file.write(path, [part], {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_configuration_and_each_line_of_python_is_right(page, tmp_path, monkeypatch):
    blocks = blocks_of(page)
    monkeypatch.chdir(tmp_path)
    leave_features(Path("results/features/mfm/seed0.parquet"))
    if any(block.title for block in blocks):
        pytest.skip("its examples are one program, which the test of examples runs")
    for block in blocks:
        if block.language == "yaml":
            check_part(block.text)
        elif block.language == "python":
            names = {"images": torch.rand(2, 3, 32, 32), "model": lambda images: images[:, :1]}
            exec(compile(block.text, str(block), "exec"), names)
        else:
            assert block.language in ("sh", "text", "snakemake"), block


EXAMPLES = [page for page in PAGES if any(block.title for block in blocks_of(page))]


@pytest.mark.processes
@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_an_example_works_as_it_stands(page, tmp_path):
    """In a copy of the package: its files, its lines, its configuration, its tests."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    files: list[str] = []
    parts: list[str] = []
    for block in blocks_of(page):
        path = tmp_path / block.title
        if block.language == "python":
            path.write_text(block.text)
        elif block.language == "diff":
            path.write_text(changed(path.read_text(), block.text))
        elif block.language == "yaml":
            parts.append(block.text)
        if block.title:
            files.append(block.title)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'src'}:{ROOT / 'tests'}"}
    check = "import test_docs\n\n\ndef test_its_configuration():\n"
    check += f"    for part in {parts!r}:\n        test_docs.check_part(part)\n"
    (tmp_path / "tests/test_parts.py").write_text(check)
    style = [str(BIN / "ruff"), "check", "--config", str(ROOT / "pyproject.toml"), *files]
    for words in ([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], style):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr


def changed(text: str, diff: str) -> str:
    """The text with a diff's lines in the place of those that it takes away."""
    before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in " -")
    after = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in " +")
    if after in text:  # somebody has followed the page
        return text
    assert text.count(before) == 1, before
    return text.replace(before, after)


def anchors_of(page: Path) -> set[str]:
    """What a heading is linked by."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target), link


def test_files_that_the_pages_name_are_there():
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
        for name in re.findall(r"`((?:src|configs|benchmarks|profiles|workflow)/[\w./-]+)`", text):
            if name not in {block.title for block in BLOCKS}:
                assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_each_page_that_names_the_gpu_says_where_it_stands_what_has_run_on_one():
    for page in PAGES:
        text = page.read_text()
        if re.search(r"\bGPUs?\b", text):
            assert "what has been run" in text.lower(), page


@pytest.mark.processes
def test_the_manual_is_built_and_asks_no_other_host_for_anything(tmp_path):
    build = [str(BIN / "mkdocs"), "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").glob("*.md"))) - 1
    for page in pages:
        asked = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="(\S+?)"', page.read_text())
        assert not [url for url in asked if re.match(r"(https?:)?//", url)]
    settings = (tmp_path / "settings/index.html").read_text()
    for key in ("images_per_class", "low_pass", "as_long_as", "radii", "layer_decay"):
        assert f"<code>{key}</code>" in settings
    commands = (tmp_path / "commands/index.html").read_text()
    assert "loader-drift" in commands
