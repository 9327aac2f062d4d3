import os
import re
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe

from mfm.reporting.figures import FIGURES

CHROMIUM = os.environ.get("MFM_CHROMIUM") or shutil.which("chromium")


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


@pytest.fixture
def opened(page, browser):
    """Open the page in a tab; no complaint, and no request for anything else, as it ends."""
    complaints, requests, tabs = [], [], []

    def open_tab(width, **more):
        tab = browser.new_page(viewport={"width": width, "height": 900}, **more)
        tabs.append(tab)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        return tab

    yield open_tab
    for tab in tabs:
        tab.close()
    assert complaints == []
    others = {url for url in requests if not url.startswith("data:")}
    assert others == {page.as_uri()}


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_in_a_browser(opened, width):
    tab = opened(width)
    for summary in tab.locator("summary").all():
        summary.click()

    pictures = tab.locator("figure :is(img, svg)").all()
    assert len(pictures) == len(FIGURES) - 1 + 3
    for picture in pictures:
        picture.scroll_into_view_if_needed()
        assert picture.is_visible()
        assert picture.bounding_box()["width"] > 300
    for image in tab.locator("figure img").all():
        assert image.evaluate("each => each.complete && each.naturalWidth") > 100
    # What is wide scrolls in a box of its own, never the page.
    name = tab.locator(".rows h5 bdi").first
    name.evaluate("each => { each.textContent = `Worst: ${'x'.repeat(250)}`; }")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width

    source = tab.get_by_role("button", name="cost (times scratch)")
    assert "training time of a pretraining" in source.get_attribute("title")
    table = tab.locator("table", has=source)

    def shown(column):
        rows = table.locator("tbody tr").all()
        return [row.locator("td").nth(column).inner_text() for row in rows]

    assert shown(4) == ["1.0", "see above"]  # with the answer
    head = table.locator("th").nth(1)
    head.locator("button").click()
    values = [float(cell.split()[0]) for cell in shown(1)]
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    gaps = table.locator("th").nth(2).locator("button")
    gaps.click()
    first = shown(2)
    assert first[1] == "-"
    gaps.click()
    assert shown(2) == first  # what has no value stays below
    assert head.get_attribute("aria-sort") is None
    arms = table.locator("th").nth(0).locator("button")
    arms.click()
    assert shown(0) == ["mfm", "scratch"]
    arms.click()
    assert shown(0) == ["scratch", "mfm"]
    published = tab.locator("#published table").first
    published.locator("th").nth(1).locator("button").click()
    cells = [row.locator("td").nth(1) for row in published.locator("tbody tr").all()]
    values = [float(cell.inner_text()) for cell in cells]
    assert values == sorted(values)


def test_figures_answer_a_pointer_and_keys(opened):
    tab = opened(1600)
    said = tab.locator("#said")
    figure = tab.locator("#picture-figures-answer svg")
    marks = figure.locator("[role=img]")
    told = [each.get_attribute("aria-label") for each in marks.all()]
    assert len(told) == 3 + 1
    assert re.fullmatch(r"mfm less scratch, seed 2: [+-]\d+\.\d\d points", told[2])
    assert told[3].startswith("mfm less scratch: mean ")
    assert figure.locator("title").count() == 0  # or it would be said twice
    marks.nth(1).hover()
    assert said.inner_text() == told[1]
    figure.hover(position={"x": 2, "y": 2})
    assert said.is_hidden()
    # One stop for Tab; arrows go from mark to mark, around its ends; Escape hides.
    assert figure.locator("[tabindex='0']").count() == 1
    marks.first.focus()
    tab.keyboard.press("ArrowLeft")
    assert said.inner_text() == told[3]
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == told[3]
    box, middle = said.bounding_box(), marks.nth(3).bounding_box()
    assert box["y"] + box["height"] <= middle["y"] or box["y"] >= middle["y"] + middle["height"]
    tab.keyboard.press("Escape")
    assert said.is_hidden()


def test_arms_are_switched_off_and_on(opened):
    tab = opened(1600)
    assert tab.locator("#arms").is_hidden()  # as long as there is nothing to switch
    tab.locator("#figures summary").click()
    tab.locator("#picture-figures-accuracy").scroll_into_view_if_needed()
    row = tab.get_by_role("group", name="Arms in the figures").get_by_role("button")
    row.first.wait_for()
    assert [each.inner_text() for each in row.all()] == ["scratch", "mfm"]

    def displayed(arm):
        return tab.eval_on_selector_all(
            f"figure [data-arm='{arm}']",
            "all => [...new Set(all.map(each => getComputedStyle(each).display != 'none'))]",
        )

    figures = tab.locator("figure", has=tab.locator("[data-arm='mfm']"))
    assert figures.count() >= 4
    row.nth(1).press("Enter")
    assert row.nth(1).get_attribute("aria-pressed") == "false"
    assert displayed("mfm") == [False]
    assert displayed("scratch") == [True]
    # The stop of the Tab key is not lost with its arm.
    stop = tab.locator("#picture-figures-accuracy svg [tabindex='0']")
    assert stop.get_attribute("aria-label").startswith("scratch, seed 0")
    row.nth(1).click()
    assert row.nth(1).get_attribute("aria-pressed") == "true"
    assert displayed("mfm") == [True]
    tab.emulate_media(media="print")
    assert row.first.is_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1600, "dark")])
def test_nothing_serious_stands_in_the_way_of_assistive_technology(opened, width, scheme):
    tab = opened(width, color_scheme=scheme, bypass_csp=True)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tab.wait_for_function("document.querySelector('.scroll[tabindex]') || innerWidth > 400")
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    found = Axe().run(tab).response
    assert len(found["passes"]) > 20
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []


def test_without_script_figures_are_seen_and_say_their_values(opened):
    tab = opened(1600, java_script_enabled=False)
    figure = tab.get_by_role("group", name=FIGURES["answer"])
    assert figure.is_visible()
    assert figure.get_by_role("img", name="mfm less scratch, seed 0").count() == 1
    assert figure.locator("title").count() == 4  # a browser shows them itself
    assert tab.locator("#arms").is_hidden()
