import html.parser
import itertools
import os
import re
import shutil
from pathlib import Path

import finished
import pandas as pd
import safetensors.numpy
from conftest import ROOT

from mfm.experiment.layout import Layout
from mfm.models.metadata import to_header
from mfm.reporting.figures import FIGURES
from mfm.reporting.page import provenance
from mfm.reporting.page.build import build


class Links(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, key, value) for key, value in attrs if key in ("src", "href")]


def test_the_page_needs_no_other_file(page):
    found = Links(page.read_text()).found
    assert all(value.startswith("data:") for _, key, value in found if key == "src")
    addresses = [value for tag, _, value in found if tag == "a"]
    assert any(a.startswith("https://github.com/CoinCheung/MFM") for a in addresses)  # by hand
    relative = {a for a in addresses if not a.startswith(("#", "https:"))}
    assert "logs/finetune/mfm/seed2.log" in relative
    # Neither weights nor the plan's own file are made up.
    missing = {a for a in relative if not (page.parent / a).is_file()}
    assert all(a == "plan.md" or a.endswith(".safetensors") for a in missing)
    # What a drawing refers to is in the page too.
    ids = {f"#{name}" for name in re.findall(r' id="([^"]+)"', page.read_text())}
    used = {value for tag, _, value in found if tag == "use"}
    assert used
    assert used | set(re.findall(r"url\((#[^)]*)\)", page.read_text())) <= ids


class Text(html.parser.HTMLParser):
    """What a page says, without its markup."""

    def __init__(self, text):
        super().__init__()
        self.found, self._hidden = "", 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._hidden += tag in ("style", "script", "svg")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("style", "script", "svg")

    def handle_data(self, data):
        self.found += data if not self._hidden else ""


def headings(text):
    return re.findall(r"<h(\d)>(.*?)</h\d>", text)


def test_the_page_has_everything(page):
    text = page.read_text()
    top1 = pd.read_csv(page.parent / "results.csv").groupby("arm")["top1"].mean()
    mean = f"<strong>{top1['mfm']:.2f}</strong>"
    for part in (
        finished.HASH,
        "images_per_class:",
        "1 min 30 s",
        "73.9%",
        "Dataset own",
        "99 files fitted",
    ):
        assert part in text
    # The answer, a picture of it, the rows, and then what they rest on.
    found = Text(text).found
    said = "given this one pretraining: mfm is not distinguishable from scratch."
    assert found.index(said) < found.index("Analysed as declared.")
    assert (
        text.index("picture-figures-answer")
        < text.index("Analysed as declared.")
        < text.index(mean)
        < text.index("<h3>How it was measured</h3>")
        < text.index("<h3>Cost</h3>")
        < text.index("<h3>Published")
        < text.index("78.542")
        < text.index("<h2>Words</h2>")
    )
    assert text.count("<figure") == len(FIGURES) - 1 + 3
    assert text.count("<h1") == 1
    assert any(level == "3" and title.startswith("How many ") for level, title in headings(text))


def test_headings_skip_no_level(page):
    levels = [int(level) for level, _ in headings(page.read_text())]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_names_of_classes_and_files_are_text(page):
    text = page.read_text()
    assert "<script>no" not in text
    assert "**c** &lt;script&gt;no script&lt;/script&gt;" in text
    assert "train/[a](b)/0.png = val/&lt;b&gt;/1.png" in text
    assert "As the training &lt;goes&gt; on." in text
    assert len(re.findall("<script", text)) == 1


def test_each_picture_has_a_name_of_its_own(page):
    names = re.findall(r' id="([^"]+)"', page.read_text())
    assert len(set(names)) == len(names)
    assert "picture-figures-confusion" in names
    assert "#picture-figures-confusion" in page.read_text()  # of the style


def test_pages_of_studies_and_further_evaluations_are_taken_in(page, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(page.parent, folder)
    rows = pd.read_csv(folder / "results.csv")
    rows["checkpoint"] = rows["checkpoint"].str.replace(str(page.parent), str(folder))
    rows.to_csv(folder / "results.csv", index=False)
    ours = finished.experiment(
        folder,
        variants={"size": {"key": "evaluate.resize", "values": [36]}},
        evaluate={"bands": {"radii": [2]}},
    )
    finished.finish_others(ours)
    (folder / "variants/other.md").write_text("# Of another configuration\n")
    text = build(ours, checked=99)
    titles = [title for level, title in headings(text) if level == "3"]
    for part in (
        "What does evaluate.resize change?",
        "Which frequencies does a model need?",
        "What do other metrics say?",
    ):
        assert part in titles
    assert "low-pass, mean (%)" in text
    assert text.count("<svg") == len(FIGURES) + 2
    assert len(re.findall(r'<img src="data:image/png[^>]*>\s*</div>', text)) == 2
    assert 'data-arm="mfm"' in text[text.index('id="picture-size"') :]
    assert "Of another" not in text
    # A picture that has gone leaves its caption, and nothing to ask a disk for.
    (folder / "variants/size.svg").unlink()
    assert "<p>[Top-1 of each arm over evaluate.resize" in build(ours, checked=99)


def test_provenance_says_what_the_weights_say(tmp_path):
    run = tmp_path / "finetune/a/seed3"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    weights = run / "model.safetensors"
    said = {"hardware": "a processor", "torch": "2.0", "code_version": "other"}
    safetensors.numpy.save_file({}, weights, metadata=to_header(said))
    os.utime(weights, (0, 86400))
    row = {"checkpoint": str(weights), "seed": 3, "top1": 70.126, "seconds": 5.0}
    row |= {"config_hash": "h", "code_version": "v"}
    (origin,) = provenance.finetunings(pd.DataFrame([row]), Layout(str(tmp_path)))
    assert origin == provenance.Origin(
        run="finetune/a/seed3",
        seed="3",
        number="top-1 70.13",
        config_hash="h",
        code_version="v",
        torch="2.0",
        hardware="a processor",
        finished="1970-01-02 00:00",
        seconds=5.0,
        log=None,
        config="finetune/a/seed3/config.json",
    )


def test_assets_are_in_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    folder = Path(provenance.__file__).parent
    kinds = {path.suffix for path in folder.iterdir() if path.is_file()} - {".py"}
    assert kinds == {".j2", ".css", ".js"}
    assert all(f'"reporting/page/*{kind}"' in text for kind in kinds)
