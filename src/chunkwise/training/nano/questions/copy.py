"""Say a passage again, word by word: what everything else is made of.

Source: Armeni et al., Characterizing Verbatim Short-Term Memory in Neural Language Models
    (2022): a list, and the list again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from chunkwise.training.nano.questions.base import Draft
from chunkwise.training.nano.questions.drawing import one_passage
from chunkwise.training.nano.questions.names import Names

__all__ = ["Copy"]

_FEWEST, _MOST = 2, 12  # things in a list


@dataclass(frozen=True, slots=True)
class Copy:
    """Lists of names and values of all kinds, each behind a name; asked for by the name.

    There are no commas: each word but the first is told by the one before it, which is what a
    head that looks for equals can learn first. With commas copying was not learnt in 400 steps.
    All kinds, because what is learnt on two hundred words is to copy those, and no others.
    """

    def draw(self, chance: random.Random, names: Names, size: int) -> Draft:
        """See `Kind.draw`."""
        runs, questions = [], []
        for place in range(size):
            name = names.person().name
            listed = self._list(chance, names)
            runs.append((f"{name}: {listed}.",))
            questions.append(one_passage("copy", f"Repeat the list of {name}.", listed, place))
        return Draft(tuple(runs), tuple(questions))

    def _list(self, chance: random.Random, names: Names) -> str:
        return " ".join(names.anything() for _ in range(chance.randint(_FEWEST, _MOST)))
