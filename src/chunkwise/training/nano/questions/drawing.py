"""What several kinds draw alike."""

from __future__ import annotations

import random
from collections.abc import Sequence

from chunkwise.training.nano.questions import words
from chunkwise.training.nano.questions.base import Draft, Question
from chunkwise.training.nano.questions.relations import Relation, say


def shuffled(chance: random.Random, runs: Sequence[tuple[str, ...]]) -> tuple[list[int], list[int]]:
    """An order of runs, and where each of their passages goes in it.

    Returns:
        Numbers of the runs in their new order, and the new place of each old passage.
    """
    order = list(range(len(runs)))
    chance.shuffle(order)
    starts, total = [0] * len(runs), 0
    for number in order:
        starts[number] = total
        total += len(runs[number])
    places = [start + i for start, run in zip(starts, runs, strict=True) for i in range(len(run))]
    return order, places


def in_new_order(chance: random.Random, draft: Draft) -> Draft:
    """The same draft with its runs in another order."""
    order, places = shuffled(chance, draft.runs)
    runs = tuple(draft.runs[number] for number in order)
    return Draft(runs, tuple(question.moved(places) for question in draft.questions))


def ask_value(chance: random.Random, relation: Relation, subject: str) -> str:
    """A question for the value that a subject has."""
    return say(chance, relation.asks, s=subject)


def one_passage(kind: str, text: str, answer: str, passage: int) -> Question:
    """A question that one passage answers."""
    return Question(kind, text, answer, frozenset((passage,)))


def filler(chance: random.Random, most: int) -> Draft:
    """Up to `most` passages that say nothing of anybody."""
    picked = chance.sample(words.FILLERS, chance.randint(0, most))
    return Draft(tuple((text,) for text in picked), ())
