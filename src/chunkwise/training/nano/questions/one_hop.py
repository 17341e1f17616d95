"""What one passage says of somebody, among others that say the like of others.

Source: F1 and associative recall in the usual form, in English sentences.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.base import Draft, Question
from chunkwise.training.nano.questions.drawing import ask_value, one_passage
from chunkwise.training.nano.questions.names import Names
from chunkwise.training.nano.questions.relations import RELATIONS, Relation, say

__all__ = ["OneHop"]


@dataclass(frozen=True, slots=True)
class OneHop:
    """A fact a passage; each is asked about, from either end.

    Attributes:
        reverse: Share of the questions that name the value and ask for the subject.
    """

    reverse: float = 0.3

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`: about two facts a subject, so that both ends of a fact matter."""
        relations = chance.sample(RELATIONS, 1 if size < 3 else 2 if size < 8 else 3)
        count = -(-size // len(relations)) + (size > 2)
        subjects = [names.person().name for _ in range(count)]
        pairs = [(subject, relation) for subject in subjects for relation in relations]
        runs, questions = [], []
        for place, (subject, relation) in enumerate(chance.sample(pairs, size)):
            value = names.value(relation.pool)
            runs.append((say(chance, relation.says, s=subject, v=value),))
            questions.append(self._question(chance, relation, subject, value, place))
        return Draft(tuple(runs), tuple(questions))

    def _question(
        self, chance: random.Random, relation: Relation, subject: str, value: str, place: int
    ) -> Question:
        if chance.random() < self.reverse:
            text = say(chance, relation.finds, v=value)
            return one_passage("one_hop", text, subject, place)
        return one_passage("one_hop", ask_value(chance, relation, subject), value, place)
