"""A kind of question: it draws passages, and questions whose answers stand in them.

Everything is a pure function of a `random.Random`, so that a test set is a seed. Passages of one
kind never contradict those of another: all names of a context are drawn from one `Names`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chunkwise.prompting import NOT_FOUND
from chunkwise.registry import Registry
from chunkwise.training.nano.questions.names import Names

UNANSWERABLE = NOT_FOUND
"""The answer to a question that the passages do not answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about passages.

    Attributes:
        kind: The kind that it measures.
        text: The question.
        answer: The answer, in the words of the passages where it names something in them.
        needs: Passages, by index, without any one of which it has another answer or none.
        indirect: Those of `needs` that say only what a later passage means: who "Z7" is, or
            "she". Whoever has read the later one with them in sight can answer from it alone.
    """

    kind: str
    text: str
    answer: str
    needs: frozenset[int]
    indirect: frozenset[int] = frozenset()

    def moved(self, places: Sequence[int]) -> Question:
        """The same question where passage `i` has become passage `places[i]`."""
        needs = frozenset(places[i] for i in self.needs)
        indirect = frozenset(places[i] for i in self.indirect)
        return Question(self.kind, self.text, self.answer, needs, indirect)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a kind draws.

    Attributes:
        runs: Passages; other passages may come between two runs, not into one. Order counts.
        questions: About them, in the order in which they were drawn; passages are counted
            through all runs.
    """

    runs: tuple[tuple[str, ...], ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """Passages with their questions."""

    passages: tuple[str, ...]
    questions: tuple[Question, ...]


class Kind(Protocol):
    """Draws one kind of question. A frozen dataclass whose fields are its options."""

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """Passages and questions.

        Args:
            chance: Where everything is drawn from.
            names: Gives names that nothing else in the context has.
            size: How many that could be confused: facts, pairs or things; at least 1.
        """
        ...


def compose(drafts: Sequence[Draft], chance: random.Random) -> Context:
    """One context of several drafts: their runs are shuffled into each other."""
    turns = [number for number, draft in enumerate(drafts) for _ in draft.runs]
    chance.shuffle(turns)
    left = [list(reversed(draft.runs)) for draft in drafts]
    places: list[list[int]] = [[] for _ in drafts]
    passages: list[str] = []
    for number in turns:
        run = left[number].pop()
        places[number].extend(range(len(passages), len(passages) + len(run)))
        passages.extend(run)
    moved = [
        question.moved(places[number])
        for number, draft in enumerate(drafts)
        for question in draft.questions
    ]
    chance.shuffle(moved)
    return Context(tuple(passages), tuple(moved))


kinds: Registry[Kind] = Registry(
    "chunkwise.training.nano.questions", shared=("base", "names", "relations", "words", "drawing")
)
