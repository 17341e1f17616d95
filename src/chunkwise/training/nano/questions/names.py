"""Names for people, places and things, parted into splits so that a test has only new ones.

A name belongs to a split by its hash: the whole name, not its parts, so that every part of a test
name was seen in training and no test name was. Real names of one word (Oslo) are in `train` only.
Common nouns from short lists (a baker, the cello, Danish) and numbers belong to all splits.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from chunkwise.training.nano.questions import words

Split = Literal["train", "valid", "test"]
Pool = Literal[
    "age", "beast", "city", "dish", "instrument", "job", "language", "science", "thing", "year"
]
"""What a value is drawn from."""

_OPEN = ("city", "dish", "thing")
_TRIES = 1000


class Person(NamedTuple):
    """A person; the pronoun is empty where the name does not tell."""

    name: str
    pronoun: str


def split_of(name: str) -> Split:
    """The split a name belongs to: a tenth each for `valid` and `test`."""
    tenth = hashlib.blake2b(name.casefold().encode(), digest_size=4).digest()[0] % 10
    return "valid" if tenth == 0 else "test" if tenth == 1 else "train"


@dataclass
class Names:
    """Draws names of one split, no two equal.

    Attributes:
        chance: Where they are drawn from.
        split: Which names.
        is_alike: Whether all things, dishes and years of the context begin in one of two ways:
            whoever answers must then keep to one of them beyond the first word.
    """

    chance: random.Random
    split: Split = "train"
    is_alike: bool = False
    _used: set[str] = field(default_factory=set)
    _starts: dict[Pool, Sequence[str]] = field(default_factory=dict)

    def person(self, *, has_pronoun: bool = False) -> Person:
        """Somebody: `Anna Velkor`, or `Velkor` where the pronoun does not matter."""
        if not has_pronoun and self.chance.random() < 0.5:
            return Person(self._new(self._invented), "")
        is_woman = self.chance.random() < 0.5
        firsts = words.WOMEN if is_woman else words.MEN
        name = self._new(lambda: f"{self.chance.choice(firsts)} {self._invented()}")
        return Person(name, "she" if is_woman else "he")

    def alias(self) -> str:
        """Another name for somebody: `Z7`, `the Grey Heron`, `Zorvek`."""
        return self._new(self.chance.choice((self._code, self._beast, self._invented)))

    def value(self, pool: Pool) -> str:
        """A value that no other fact of the context has."""
        make = self._makers()[pool]
        return self._new(make, is_open=pool in _OPEN)

    def anything(self) -> str:
        """A name or a value of any kind, perhaps one that the context has already."""
        pool = self.chance.choice((*get_args(Pool), "person", "alias"))
        if pool == "person":
            return self.person().name
        if pool == "alias":
            return self.alias()
        make = self._makers()[pool]
        return self._new(make) if pool in _OPEN else make()

    def _makers(self) -> dict[Pool, Callable[[], str]]:
        pick = self.chance.choice
        return {
            "age": lambda: str(self.chance.randint(18, 97)),
            "beast": lambda: pick(words.BEASTS),
            "city": self._city,
            "dish": lambda: f"{self._start('dish', words.TASTES)} {pick(words.DISHES)}",
            "instrument": lambda: pick(words.INSTRUMENTS),
            "job": lambda: pick(words.JOBS),
            "language": lambda: pick(words.LANGUAGES),
            "science": lambda: pick(words.SCIENCES),
            "thing": lambda: f"the {self._start('thing', words.COLOURS)} {pick(words.THINGS)}",
            "year": self._year,
        }

    def _start(self, pool: Pool, options: Sequence[str]) -> str:
        """A first word: any, or one of the two that are left where values are alike."""
        if self.is_alike:
            if pool not in self._starts:
                self._starts[pool] = self.chance.sample(options, 2)
            options = self._starts[pool]
        return self.chance.choice(options)

    def _year(self) -> str:
        if self.is_alike:
            return self._start("year", ("18", "19")) + f"{self.chance.randint(1, 99):02}"
        return str(self.chance.randint(1801, 2019))

    def _city(self) -> str:
        if self.split == "train" and self.chance.random() < 0.3:
            return self.chance.choice(words.CITIES)
        if self.chance.random() < 0.3:
            return self._joined(words.FIRSTS, words.MIDDLES, words.TOWN_ENDS)
        return self._joined(words.FIRSTS, words.TOWN_ENDS)

    def _invented(self) -> str:
        if self.chance.random() < 0.3:
            return self._joined(words.FIRSTS, words.MIDDLES, words.LASTS)
        return self._joined(words.FIRSTS, words.LASTS)

    def _code(self) -> str:
        return f"{self.chance.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}{self.chance.randint(2, 99)}"

    def _beast(self) -> str:
        return f"the {self.chance.choice(words.TRAITS)} {self.chance.choice(words.ANIMALS)}"

    def _joined(self, *parts: Sequence[str]) -> str:
        return "".join(self.chance.choice(part) for part in parts)

    def _new(self, make: Callable[[], str], *, is_open: bool = True) -> str:
        """One that is not used yet and, of an open pool, of this split."""
        for _ in range(_TRIES):
            name = make()
            is_ours = not is_open or name in words.CITIES or split_of(name) == self.split
            if name not in self._used and is_ours:
                self._used.add(name)
                return name
        raise AssertionError(f"{_TRIES} draws gave no new name in {self.split!r}: pool too small")
