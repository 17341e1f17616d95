"""A passage speaks of somebody whom only an earlier passage names: by an alias, or as a relative.

Source: F2 of our catalogue, "alias-chunks": without attention from chunk to chunk the answer
    cannot be told, so that naive reuse of their keys and values must fail.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.base import Draft, Question
from chunkwise.training.nano.questions.drawing import ask_value, one_passage
from chunkwise.training.nano.questions.names import Names
from chunkwise.training.nano.questions.relations import LINKS, RELATIONS, Link, Relation, say

__all__ = ["Bridge"]


@dataclass(frozen=True, slots=True)
class Bridge:
    """Pairs of a link and a later fact; all facts of a draft are of one relation.

    Attributes:
        aliases: Share of the drafts whose links are aliases; the others link two people.
        with_parts: Whether each passage is asked about by itself, too.
    """

    aliases: float = 0.6
    with_parts: bool = True

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`: `size` pairs, two passages each."""
        relation = chance.choice(RELATIONS)
        link = LINKS[0] if chance.random() < self.aliases else chance.choice(LINKS[1:])
        order = self._order(chance, size)
        passages: list[str] = [""] * (2 * size)
        questions: list[Question] = []
        for pair in range(size):
            first, second = (place for place, owner in enumerate(order) if owner == pair)
            subject = names.person().name
            other = names.alias() if link.is_alias else names.person().name
            value = names.value(relation.pool)
            passages[first] = say(chance, link.says, s=subject, a=other)
            passages[second] = say(chance, relation.says, s=other, v=value)
            named = link.named.format(s=subject)
            asked = ask_value(chance, relation, named)
            needs, indirect = frozenset((first, second)), frozenset((first,))
            questions.append(Question("bridge", asked, value, needs, indirect))
            if self.with_parts:
                questions += self._parts(
                    chance, link, relation, (subject, other, value), (first, second)
                )
        return Draft(tuple((text,) for text in passages), tuple(questions))

    def _order(self, chance: random.Random, size: int) -> list[int]:
        """The pair of each passage; the first of a pair's two is the link."""
        order = [pair for pair in range(size) for _ in range(2)]
        chance.shuffle(order)
        return order

    def _parts(
        self,
        chance: random.Random,
        link: Link,
        relation: Relation,
        said: tuple[str, str, str],
        places: tuple[int, int],
    ) -> list[Question]:
        subject, other, value = said
        to_other = say(chance, link.finds, s=subject)
        to_value = ask_value(chance, relation, other)
        return [
            one_passage("one_hop", to_other, other, places[0]),
            one_passage("one_hop", to_value, value, places[1]),
        ]
