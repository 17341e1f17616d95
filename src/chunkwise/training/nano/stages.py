"""The curriculum: what is learnt in which order, and when a stage is over.

A stage ends when fresh validation questions are answered as well as its goals ask, or when its
share of the steps is used up. Copying comes first, then one fact, then more, then two passages:
each is the part that the next is made of. Plain text runs along from the start; a stage of text
alone before them undid the heads that `start.py` writes, and copying was not learnt after it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from chunkwise.errors import ConfigError
from chunkwise.training.nano.questions import Context, Names, compose, kinds, words
from chunkwise.training.nano.questions.drawing import filler
from chunkwise.training.nano.questions.names import Split

_MOST_QUESTIONS = 14
_LATER = 0.6  # pace of the stages in which things have to be told apart
_ALIKE = 0.3  # share of contexts whose values begin alike
_KINDS = {name: kinds.build(name) for name in kinds.own}


@dataclass(frozen=True, slots=True)
class Mix:
    """How contexts of generated questions are drawn.

    Attributes:
        odds: Of each kind.
        size: Smallest and largest `size` of a kind's draft.
        drafts: Fewest and most drafts in a context.
        fillers: Most passages that say nothing.
        opened: Share of the passages that begin with a word or two. A name at the very beginning
            has other tokens than behind a blank, which is hard to learn before looking up is.
        alike: Share of the contexts to learn from whose values begin alike: "1855" and "1895",
            "the red belt" and "the red saddle", which is where most was got wrong.
    """

    odds: Mapping[str, float]
    size: tuple[int, int]
    drafts: tuple[int, int] = (1, 1)
    fillers: int = 0
    opened: float = 0.9
    alike: float = 0.0

    def draw(self, chance: random.Random, split: Split) -> Context:
        """A context with at most some fourteen questions."""
        count = chance.randint(*self.drafts)
        is_alike = split == "train" and self.alike > 0 and chance.random() < self.alike
        names = Names(chance, split, is_alike)
        picked = chance.choices(list(self.odds), weights=list(self.odds.values()), k=count)
        drafts = [_KINDS[kind].draw(chance, names, chance.randint(*self.size)) for kind in picked]
        drafts.append(filler(chance, self.fillers))
        whole = compose(drafts, chance)
        passages = tuple(self._opened(text, chance) for text in whole.passages)
        return Context(passages, whole.questions[:_MOST_QUESTIONS])

    def _opened(self, text: str, chance: random.Random) -> str:
        return chance.choice(words.OPENERS) + text if chance.random() < self.opened else text


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the curriculum.

    Attributes:
        name: Its name in the log.
        share: Most of all steps that it may take, in (0, 1].
        mix: Generated questions; None: none.
        goals: Accuracy of each kind that ends it; empty: only its share does.
        text: Share of the steps that are plain text.
        real: Share of the steps that are questions people wrote.
        reused: Share of the steps with questions whose chunks are reused: computed alone, and some
            of their tokens afresh (`repair.py`); the others are full attention.
        pace: Of the learning rate. What is asked for later hangs on exact matches, which large
            steps blur: at full pace two facts were told apart in 70 % of the questions, at a
            third of it in 86 % fifty steps later. So goals before the last stage, where the
            learning rate falls, are below what is meant to be reached.
    """

    name: str
    share: float
    mix: Mix | None = None
    goals: Mapping[str, float] = field(default_factory=dict)
    text: float = 0.0
    real: float = 0.0
    reused: float = 0.0
    pace: float = 1.0

    def is_reached(self, figures: Mapping[str, float]) -> bool:
        """Whether the figures fulfil the goals; never without goals."""
        return bool(self.goals) and all(
            figures.get(kind, 0.0) >= goal for kind, goal in self.goals.items()
        )


_ALL = {
    "bridge": 3.0,
    "coreference": 2.0,
    "comparison": 1.5,
    "counting": 1.0,
    "one_hop": 1.5,
    "unanswerable": 1.0,
    "copy": 0.3,
}
_OFTENER = {"bridge": 6.0, "coreference": 4.0, "unanswerable": 2.0}
EVERYTHING = Mix(_ALL, (2, 4), (1, 3), fillers=2, opened=0.5)
"""Contexts of several kinds of questions."""

STAGES = (
    Stage(
        "copy",
        0.05,
        Mix({"copy": 1.0, "one_hop": 1.0}, (1, 2)),
        {"copy": 0.4, "one_hop": 0.6},
        text=0.05,
    ),
    Stage(
        "one fact", 0.05, Mix({"one_hop": 4.0, "copy": 1.0}, (1, 1)), {"one_hop": 0.85}, text=0.05
    ),
    Stage(
        "two facts",
        0.08,
        Mix({"one_hop": 6.0, "copy": 1.0}, (2, 2), alike=_ALIKE),
        {"one_hop": 0.85},
        text=0.05,
        pace=_LATER,
    ),
    Stage(
        "four facts",
        0.10,
        Mix({"one_hop": 8.0, "copy": 1.0}, (3, 5), alike=_ALIKE),
        {"one_hop": 0.85},
        text=0.05,
        pace=_LATER,
    ),
    Stage(
        "two hops",
        0.30,
        Mix({"bridge": 4.0, "coreference": 2.0, "one_hop": 1.0}, (2, 4), alike=_ALIKE),
        {"bridge": 0.95, "coreference": 0.95},
        text=0.05,
        pace=_LATER,
    ),
    Stage(
        "all kinds",
        0.08,
        Mix(_ALL, (2, 4), (1, 2), fillers=1, alike=_ALIKE),
        {"bridge": 0.9, "coreference": 0.9, "comparison": 0.8, "counting": 0.8},
        text=0.05,
        pace=_LATER,
    ),
    Stage("real", 0.2, replace(EVERYTHING, alike=_ALIKE), text=0.15, real=0.15, pace=_LATER),
    Stage(
        "reused",
        1.0,
        replace(EVERYTHING, odds={**_ALL, **_OFTENER}, alike=_ALIKE),
        text=0.05,
        real=0.05,
        reused=0.8,
        pace=_LATER,
    ),
)
"""The stages of `nano`, in order; the last takes what is left."""


def stage_names() -> list[str]:
    """Names of the stages, in order."""
    return [stage.name for stage in STAGES]


def require_stage(name: str) -> None:
    """Raises `ConfigError` if there is no stage of that name."""
    if name not in stage_names():
        raise ConfigError(f"`start` must be one of {', '.join(stage_names())}, got {name!r}.")
