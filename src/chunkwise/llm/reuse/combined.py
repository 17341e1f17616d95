"""First tokens of chunks, and for the rest of the budget what the question looks at.

Source: ours, of `legolink`, `question` and, where `unseen` is set, Cache-Craft's measure of what a
    chunk needs (`cache_craft`).
Exact when: `ratio` is 1.
Cost: as of `question`.
Measured: link tokens take an eighth of the budget at most. Of passages of nine tokens one each is
    two thirds of a budget of 15 %, and answers right fell from .84 to .65 with all of them; with a
    quarter 2.7 points were lost of 95.7, with an eighth 2.2, without any 2.1 (2,000 questions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.llm.reuse._overhead import Unseen, overheads
from chunkwise.llm.reuse.base import Evidence, Passages, Positions, highest

__all__ = ["Combined"]

LINK_SHARE = 8
"""One part in so many of the budget is for link tokens, at most."""


@dataclass(frozen=True)
class Combined:
    """See module.

    Attributes:
        ratio: Share of the chunks' tokens, link tokens included.
        tokens: Link tokens of each chunk; where they are more than an eighth of the budget, those
            that the question looks at most.
        unseen: Beyond link tokens, what the question looks at counts as much as its chunk needs
            to be computed afresh, see `cache_craft`; empty: as it is.
    """

    ratio: float = 0.15
    tokens: int = 4
    unseen: Unseen | Literal[""] = ""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"`ratio` must be in [0, 1], got {self.ratio!r}.")
        if self.tokens < 0:
            raise ConfigError(f"`tokens` must be at least 0, got {self.tokens!r}.")
        if self.unseen not in ("", *get_args(Unseen)):
            raise ConfigError(f"`unseen` must be empty, all or share, got {self.unseen!r}.")

    @property
    def evidence(self) -> Evidence:
        """See `RecomputePolicy.evidence`."""
        return Evidence(attention=True, statistics=bool(self.unseen))

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        assert passages.attention is not None, "it was asked for"
        positions = passages.positions
        count = round(self.ratio * len(positions))
        runs = [np.arange(c.first, min(c.first + self.tokens, c.end)) for c in passages.chunks]
        links = np.concatenate([np.zeros(0, np.int32), *runs]).astype(np.int32)
        first = highest(links, passages.attention, count // LINK_SHARE)
        others = np.setdiff1d(positions, first)
        return np.union1d(first, highest(others, self._scores(passages), count - len(first)))

    def _scores(self, passages: Passages) -> NDArray[np.float32]:
        """What the question looks at, as far as it needs to be computed afresh."""
        assert passages.attention is not None, "it was asked for"
        if not self.unseen:
            return passages.attention
        scores = passages.attention.copy()
        for chunk, overhead in zip(passages.chunks, overheads(passages, self.unseen), strict=True):
            scores[slice(*chunk)] *= overhead
        return scores
