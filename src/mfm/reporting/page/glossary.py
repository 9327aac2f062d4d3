"""Glossary of the report: what its words mean, for who has never seen a table of this kind."""

from __future__ import annotations

import re

from mfm.reporting.document import Inline, Term, Text

# A word as it stands in sentences, and what it means.
WORDS = {
    "after Holm": "A p value made larger for several comparisons together: the more there are, "
    "the more seem to differ by chance.",
    "arm": "One way of training: what a network starts from, with everything else alike.",
    "baseline": "The arm that the others are compared with.",
    "better": "The arm with the better mean: a t test and an exact test both find a difference.",
    "clear verdict": "Better or worse: a t test and an exact test both find a difference.",
    "cost": "The measured training time of one pretraining and one finetuning.",
    "finetuning": "Training on labelled images, after a pretraining or from scratch.",
    "floor": "What a simple classifier reaches on the same labelled images without training a "
    "network. An arm below it says little about its pretraining.",
    "frozen features": "What a network makes of an image, read without training it further.",
    "interval": "A range that holds the true mean in 95 of 100 such experiments. Where that of a "
    "difference holds zero, it is open which of the two arms is better.",
    "last map": "A network's features before they are averaged over the image: one set of numbers "
    "for each of its positions.",
    "no verdict": "No spread to judge a difference by: a single run, or equal differences.",
    "not distinguishable": "Neither of two tests finds a difference. That does not make the arms "
    "equal: the interval says how far apart they may be.",
    "points": "The difference of two percentages: 76% is one point more than 75%.",
    "pretraining": "Training before a finetuning, in most arms without any labels. The task mfm is "
    "masked frequency modeling: it hides a band of frequencies of each image and predicts it.",
    "scratch": "A network that begins with random weights, without any pretraining.",
    "seed": "The number that draws a run's labelled images, their order and first weights. Runs "
    "of two arms with the same seed are a pair.",
    "suggestive": "One of two tests finds a difference, and the other one doesn't.",
    "top-1": "The share of evaluated images whose class is recognised at the first guess.",
    "trained as long": "From scratch, for as long as another arm with its pretraining: the "
    "comparison at equal cost.",
    "worse": "The arm with the worse mean: a t test and an exact test both find a difference.",
}
_ALSO = {"pretrainings": "pretraining", "finetunings": "finetuning", "seeds": "seed", "arms": "arm"}
_FOUND = re.compile(
    r"(?<![\w-])(?:"
    + "|".join(sorted(map(re.escape, (*WORDS, *_ALSO)), key=len, reverse=True))
    + r")(?![\w-])"
)


def linked(text: str) -> Text:
    """A text whose words lead to what they mean, each where it stands first."""
    parts: list[Inline] = []
    end, seen = 0, set()
    for found in _FOUND.finditer(text):
        word = _ALSO.get(found[0], found[0])
        if word in seen:
            continue
        seen.add(word)
        parts += [text[end : found.start()], Term(found[0], WORDS[word], f"#{place(word)}")]
        end = found.end()
    return tuple(part for part in (*parts, text[end:]) if part != "")


def place(word: str) -> str:
    """The name of a word's place on the page."""
    return f"word-{word.replace(' ', '-')}"
