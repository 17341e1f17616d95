"""First tokens of chunks, and for the rest of the budget what the question looks at.

Source: ours, of `legolink` and `question`.
Exact when: `ratio` is 1.
Cost: as of `question`.
Measured: link tokens take a quarter of the budget at most. Of passages of nine tokens one each is
    two thirds of a budget of 15 %, and answers right fell from .84 to .65 with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.llm.reuse.base import Passages, Positions

__all__ = ["Combined"]


@dataclass(frozen=True)
class Combined:
    """See module.

    Attributes:
        ratio: Share of the chunks' tokens, link tokens included.
        tokens: Link tokens of each chunk; where they are more than a quarter of the budget, those
            that the question looks at most.
    """

    ratio: float = 0.15
    tokens: int = 4
    needs_attention = True

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"`ratio` must be in [0, 1], got {self.ratio!r}.")
        if self.tokens < 0:
            raise ConfigError(f"`tokens` must be at least 0, got {self.tokens!r}.")

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        assert passages.attention is not None, "it was asked for"
        positions = passages.positions
        count = round(self.ratio * len(positions))
        looked = passages.attention[positions]
        is_link = np.zeros(len(positions), np.bool_)
        for chunk in passages.chunks:
            first = int(np.searchsorted(positions, chunk.first))
            is_link[first : first + min(self.tokens, chunk.end - chunk.first)] = True
        links = _most(np.where(is_link, looked, -np.inf), min(count // 4, int(is_link.sum())))
        others = np.where(np.isin(np.arange(len(positions)), links), -np.inf, looked)
        picked = np.concatenate([links, _most(others, count - len(links))])
        return np.sort(positions[picked])


def _most(score: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Indices of the `count` highest scores; of equal ones the first."""
    return np.argsort(-score, kind="stable")[:count]
