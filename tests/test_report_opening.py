import re

import finished
import pytest
from finished import GAINS, planted

from mfm.reporting import answer, table
from mfm.reporting.document import Term, parts_of, plain
from mfm.reporting.page import glossary, opening
from mfm.reporting.page.build import build

ALL = {
    "scratch": (0.0,) * 8,
    "mfm": GAINS,
    "scratch-long": (0.1, 0.2, 0.0, 0.1, 0.3, 0.0, 0.1, 0.0),
}
LONG = {"question": {"arm": "mfm", "baseline": "scratch-long"}}


def opened(gains=ALL, **more):
    found = planted(gains, **{"pretrainings": 8} | more)
    return found, table.compare(found)


def numbers(*args, **more):
    return {
        plain(each.name): f"{each.value} {plain(each.unit)}, {plain(each.note)}"
        for each in opening.numbers(*opened(*args, **more))
    }


def test_three_numbers_of_the_declared_comparison():
    said = numbers()
    assert re.fullmatch(
        r"\+1\.00 points of top-1, 95% interval \+0\.90 to \+1\.10", said.pop("mfm less scratch")
    )
    assert said == {
        "rests on": "8 pretrainings, in pairs of runs with the same seed",
        "cost of mfm": "6.5 times scratch, training time, pretraining and finetuning",
    }
    said = numbers(**LONG)
    assert list(said) == ["mfm less scratch-long", "rests on", "cost of mfm"]
    assert said["cost of mfm"].startswith("1.0 times scratch-long,")
    assert "too few for a clear verdict: it takes 6" in numbers(pretrainings=4)["rests on"]
    assert numbers({"scratch": (0.0,)}, question=None) == {}
    one = numbers({"scratch": (0.0,), "mfm": (1.0,)}, pretrainings=1)
    assert one["mfm less scratch"] == "+1.00 points of top-1, without interval"


def test_without_a_question_it_opens_with_the_first_arm():
    assert "mfm less scratch" in numbers(question=None)


@pytest.mark.parametrize("more", [{}, LONG, {"question": None}])
def test_a_number_of_the_answer_is_in_no_row(more):
    found, compared = opened(**more)
    shown = [each.value for each in opening.numbers(found, compared)]
    blocks = [*opening.arms(found, compared)]
    blocks += [each for section in opening.more(found, compared) for each in section.blocks]
    rows = [row for block in blocks if hasattr(block, "cells") for row in block.cells()]
    [mfm, again] = [row for row in rows if plain(row[0]).startswith("mfm")]
    cells = [plain(cell) for cell in (*mfm, *again)]
    assert not any(cell.startswith(shown[0]) for cell in cells)
    assert cells.count("see above") == (1 if more == LONG else 2)
    # All columns of the table are in one of the two.
    assert len(mfm) + len(again) - 1 == len(table.measured(found, compared).columns)


def test_the_sentence_is_the_tables_without_numbers():
    found, compared = opened()
    said = plain(opening.sentence(found, compared))
    assert said == answer.opening(found.experiment, compared, numbers=False)
    assert not re.search(r"\d", said)


def test_words_are_explained_where_they_stand_first():
    parts = parts_of(glossary.linked("scratch-long: points, a point, points; not distinguishable"))
    terms = [part for part in parts if isinstance(part, Term)]
    assert [each.text for each in terms] == ["points", "not distinguishable"]
    assert plain(parts) == "scratch-long: points, a point, points; not distinguishable"
    assert glossary.linked("pretrainings")[0].address == "#word-pretraining"
    verdicts = {word.split(" (")[0] for word in answer._WORDS}
    assert verdicts <= set(glossary.WORDS)


@pytest.fixture(scope="module")
def text(finished_results):
    return build(finished.experiment(finished_results), checked=99)


def test_every_word_has_its_place(text):
    links = set(re.findall(r'href="#([^"]+)"', text))
    places = re.findall(r' id="([^"]+)"', text)
    assert {"answer", "word-interval"} <= links <= set(places)
    assert {glossary.place(word) for word in glossary.WORDS} <= set(places)


def test_no_interval_stands_twice(text):
    own = re.sub(r"<(style|script|svg).*?</\1>", "", text, flags=re.S)
    # Other evaluations have pages of their own, with numbers of their own.
    parts = re.split(r'(?=<details class="fold")', own[: own.index('id="published"')])
    own = "".join(part for part in parts if 'id="page-' not in part or 'id="page-plan"' in part)
    found = re.findall(r"[+-]?\d+\.\d\d to [+-]?\d+\.\d\d", own)
    assert len(found) == len(set(found)) > 3


def test_what_is_seen_at_once_has_at_most_three_numbers_a_line(text):
    seen = re.sub(r"<(style|script|svg).*?</\1>", "", text[: text.index('id="more"')], flags=re.S)
    seen = re.sub(r"<(?:p|td|th|dt|dd|li|h\d)\b", "\n<", seen)
    for line in re.sub(r"<[^>]*>", "", seen).splitlines():
        for sentence in re.split(r"(?<=[.:;])\s", line):
            assert len(re.findall(r"(?<![\w-])[+-]?\d[\d,]*(?:\.\d+)?", sentence)) <= 3, sentence
