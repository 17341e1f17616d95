"""How many: each thing stands in its own passage, among those of others."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions import words
from chunkwise.training.nano.questions.base import Draft, Question
from chunkwise.training.nano.questions.names import Names
from chunkwise.training.nano.questions.relations import say

__all__ = ["Counting"]

_SAYS = ("{s} bought {v}.", "{s} has bought {v}.", "{v} was bought by {s}.")
_ASKS = ("How many things did {s} buy?", "How many things has {s} bought?")


@dataclass(frozen=True, slots=True)
class Counting:
    """People who bought some things each.

    Attributes:
        most: Most things of one of them.
    """

    most: int = 3

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`: things of two people, `size` at least."""
        counts: list[int] = []
        while len(counts) < 2 or sum(counts) < size:
            counts.append(chance.randint(1, self.most))
        buyers = [names.person().name for _ in counts]
        order = [buyer for buyer, count in enumerate(counts) for _ in range(count)]
        chance.shuffle(order)
        runs = [(say(chance, _SAYS, s=buyers[buyer], v=names.value("thing")),) for buyer in order]
        questions = []
        for buyer, count in enumerate(counts):
            text = say(chance, _ASKS, s=buyers[buyer])
            needs = frozenset(place for place, owner in enumerate(order) if owner == buyer)
            questions.append(Question("counting", text, words.NUMBERS[count], needs))
        return Draft(tuple(runs), tuple(questions))
