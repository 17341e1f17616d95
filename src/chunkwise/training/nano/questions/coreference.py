"""A passage says "she", or "the baker", of whom the passage before, or an earlier one, spoke.

Source: none; the commonest way in which a chunk depends on the one before it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.base import Draft, Question
from chunkwise.training.nano.questions.drawing import ask_value, in_new_order, one_passage
from chunkwise.training.nano.questions.names import Names
from chunkwise.training.nano.questions.relations import RELATIONS, Relation, say

__all__ = ["Coreference"]

_JOB = ("{s} is {v}.", "{s} works as {v}.")
_OPENINGS = (
    "{s} came to the village in spring.",
    "This page is about {s}.",
    "Everybody here knows {s}.",
    "The next story is that of {s}.",
)


@dataclass(frozen=True, slots=True)
class Coreference:
    """Pairs of an opening and what follows; all facts of a draft are of one relation.

    Attributes:
        pronouns: Share of the drafts with pronouns; the others say "the baker".
    """

    pronouns: float = 0.6

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`: `size` pairs; pronouns follow at once."""
        fitting = [r for r in RELATIONS if r.pool not in ("job",)]
        relation = chance.choice(fitting)
        make = self._by_pronoun if chance.random() < self.pronouns else self._by_job
        return make(chance, names, relation, size)

    def _by_pronoun(
        self, chance: random.Random, names: Names, relation: Relation, size: int
    ) -> Draft:
        runs, questions = [], []
        for pair in range(size):
            person = names.person(has_pronoun=True)
            value = names.value(relation.pool)
            opening = say(chance, _OPENINGS, s=person.name)
            runs.append((opening, say(chance, relation.says, s=person.pronoun, v=value)))
            questions.append(
                _pair(chance, relation, (person.name, value), (2 * pair, 2 * pair + 1))
            )
        return in_new_order(chance, Draft(tuple(runs), tuple(questions)))

    def _by_job(self, chance: random.Random, names: Names, relation: Relation, size: int) -> Draft:
        order = [pair for pair in range(size) for _ in range(2)]
        chance.shuffle(order)
        passages: list[str] = [""] * (2 * size)
        questions: list[Question] = []
        for pair in range(size):
            first, second = (place for place, owner in enumerate(order) if owner == pair)
            subject, job, value = (
                names.person().name,
                names.value("job"),
                names.value(relation.pool),
            )
            passages[first] = say(chance, _JOB, s=subject, v=job)
            passages[second] = say(chance, relation.says, s=_definite(job), v=value)
            questions.append(_pair(chance, relation, (subject, value), (first, second)))
            asked = ask_value(chance, relation, _definite(job))
            questions.append(one_passage("one_hop", asked, value, second))
        return Draft(tuple((text,) for text in passages), tuple(questions))


def _pair(
    chance: random.Random, relation: Relation, said: tuple[str, str], places: tuple[int, int]
) -> Question:
    subject, value = said
    asked = ask_value(chance, relation, subject)
    return Question("coreference", asked, value, frozenset(places), frozenset(places[:1]))


def _definite(job: str) -> str:
    return "the " + job.split(" ", 1)[1]
