"""Which of two has more: each number stands in its own passage."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.base import Draft, Question
from chunkwise.training.nano.questions.names import Names
from chunkwise.training.nano.questions.relations import MEASURES, say

__all__ = ["Comparison"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """People with a number each; neighbours in a random order are compared.

    Attributes:
        gap: Least difference between any two numbers.
    """

    gap: int = 3

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`: `size` people, at least two."""
        measure = chance.choice(MEASURES)
        size = min(max(size, 2), (measure.high - measure.low) // self.gap)
        numbers = self._numbers(chance, size, measure.low, measure.high)
        people = [names.person().name for _ in numbers]
        runs = [
            (say(chance, measure.says, s=name, v=str(number)),)
            for name, number in zip(people, numbers, strict=True)
        ]
        questions = []
        for a, b in zip(range(size), [*range(1, size), 0], strict=True):
            text = say(chance, measure.asks, a=people[a], b=people[b])
            more = a if numbers[a] > numbers[b] else b
            questions.append(Question("comparison", text, people[more], frozenset((a, b))))
        return Draft(tuple(runs), tuple(questions))

    def _numbers(self, chance: random.Random, size: int, low: int, high: int) -> list[int]:
        """Numbers with the gap between them, in any order."""
        slack = high - low - (size - 1) * self.gap
        cuts = sorted(chance.randint(0, slack) for _ in range(size))
        numbers = [low + cut + i * self.gap for i, cut in enumerate(cuts)]
        chance.shuffle(numbers)
        return numbers
