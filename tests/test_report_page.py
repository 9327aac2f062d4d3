import html.parser
import os
import shutil
from pathlib import Path

import finished
import pandas as pd
import pytest
import safetensors.numpy
from conftest import ROOT
from PIL import Image

from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.models.metadata import to_header
from mfm.reporting.figures.resize import draw_resize
from mfm.reporting.page import provenance
from mfm.reporting.page.build import build
from mfm.reporting.page.markdown import to_html
from mfm.settings.section import parse

CHROMIUM = os.environ.get("MFM_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="module")
def page(finished_results):
    path = finished_results / "report.html"
    path.write_text(build(finished.experiment(finished_results), finished_results))
    return path


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
    assert "https://example.org/page" in addresses  # to follow by hand
    relative = [a for a in addresses if not a.startswith(("#", "https:"))]
    assert "logs/finetune/mfm/seed2.log" in relative
    for address in relative:
        assert (page.parent / address).is_file(), address


def test_the_page_has_everything(page):
    text = page.read_text()
    for part in ("60.25", "There are 30.", finished.HASH, "images_per_class:", "1 min 30 s"):
        assert part in text
    assert (
        text.index("mfm is better")
        < text.index("60.25")
        < text.index("<summary>Published")
        < text.index("example.org<")
    )
    assert "<script>no" not in text
    assert "&lt;script&gt;no" in text
    assert text.count("<figure") == 6 + 3
    assert text.count("<h1") == 1


def test_further_pages_are_taken_in(page, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(page.parent, folder)
    values = {**finished.EXPERIMENT, "results": str(folder), "ablations": {"val_resize": [36]}}
    ours = parse(Experiment, values, where="test")
    Image.new("L", (9, 9)).save(folder / "strip.png")
    text = "# Resize\n\n![strip](strip.png) ![gone](gone.png)\n"
    (folder / "ablation_val_resize.md").write_text(text)
    (folder / "ablation_loss.md").write_text("# Of another configuration\n")
    rows = pd.read_csv(folder / "results.csv")
    sizes = pd.concat([rows.assign(value=32), rows.assign(value=36, top1=rows["top1"] - 1)])
    figure = draw_resize(ours, sizes)
    means = rows.groupby("init")["top1"].mean()
    drawn = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 2]
    assert any(list(y) == pytest.approx([means["mfm"], means["mfm"] - 1]) for y in drawn)
    style.save(figure, folder / "figures/val_resize.svg")
    text = build(ours, folder)
    for part in ("<h3>Resize</h3>", "<h3>How many seeds?</h3>", "it was fixed in advance"):
        assert part in text
    assert text.count('src="data:image/png') == 4
    assert text.count('src="data:image/svg') == 7
    assert "gone.png" not in text
    assert "Of another" not in text


def test_markdown_shows_html_as_text(tmp_path):
    html = to_html("# <b>A</b>\n\n| <i>x</i> |\n| --- |\n| y |\n", folder=tmp_path)
    assert "<h2>&lt;b&gt;A" in html
    assert '<div class="scroll"><table>' in html.replace("\n", "")
    assert "<i>" not in html


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
    (origin,) = provenance.finetunings(pd.DataFrame([row]), tmp_path)
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


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium, or MFM_CHROMIUM=/path/to/one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_in_a_browser(page, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    complaints, requests = [], []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    for summary in tab.locator("summary").all():
        summary.click()

    images = tab.locator("img").all()
    assert len(images) == 9
    for image in images:
        image.scroll_into_view_if_needed()
        assert image.is_visible()
        assert image.evaluate("each => each.complete && each.naturalWidth") > 100
        assert image.bounding_box()["width"] > 300
    # What is wide scrolls in a box of its own, never the page.
    assert tab.evaluate("document.documentElement.scrollWidth") <= width

    table = tab.locator("#comparison table").first
    shown = lambda column: [  # noqa: E731
        row.locator("td").nth(column).inner_text() for row in table.locator("tbody tr").all()
    ]
    head = table.locator("th").nth(1)
    head.locator("button").click()
    assert shown(1) == ["9.50", "10.00", "60.25"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert shown(1) == ["60.25", "10.00", "9.50"]
    assert head.get_attribute("aria-sort") == "descending"
    times = table.locator("th").nth(2).locator("button")
    times.click()
    assert shown(2) == ["2.6 min + 27 s", "1.2 h", "-"]
    times.click()
    assert shown(2) == ["1.2 h", "2.6 min + 27 s", "-"]
    assert head.get_attribute("aria-sort") is None

    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    tab.close()


def test_assets_are_in_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    assert '"report/page/page.*"' in text
    folder = Path(provenance.__file__).parent
    assert {path.suffix for path in folder.glob("page.*")} == {".j2", ".css", ".js"}
