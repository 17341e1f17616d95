"""Questions that the passages do not answer, though they speak of such things and such people."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.base import UNANSWERABLE, Draft, Question
from chunkwise.training.nano.questions.drawing import ask_value, one_passage
from chunkwise.training.nano.questions.names import Names
from chunkwise.training.nano.questions.relations import LINKS, RELATIONS, say

__all__ = ["Unanswerable"]


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """Facts; asked for of somebody else, for something else, or through a link not there."""

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`: `size` facts, with one question that has an answer."""
        relation, other = chance.sample(RELATIONS, 2)
        link = chance.choice(LINKS[1:])
        runs, asked = [], []
        people = [names.person().name for _ in range(size)]
        values = [names.value(relation.pool) for _ in people]
        for person, value in zip(people, values, strict=True):
            runs.append((say(chance, relation.says, s=person, v=value),))
            asked.append(
                chance.choice(
                    (
                        ask_value(chance, relation, names.person().name),
                        ask_value(chance, other, person),
                        ask_value(chance, relation, link.named.format(s=person)),
                        say(chance, relation.finds, v=names.value(relation.pool)),
                    )
                )
            )
        questions = [Question("unanswerable", text, UNANSWERABLE, frozenset()) for text in asked]
        known = chance.randrange(size)
        text = ask_value(chance, relation, people[known])
        questions.append(one_passage("one_hop", text, values[known], known))
        return Draft(tuple(runs), tuple(questions))
