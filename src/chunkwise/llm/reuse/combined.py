"""The first tokens of each chunk, and for the rest of the budget what the question looks at.

Source: ours, of `legolink` and `question`.
Exact when: `ratio` is 1.
Cost: as of `question`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.llm.kv.memory import Positions
from chunkwise.llm.reuse.base import Passages

__all__ = ["Combined"]


@dataclass(frozen=True)
class Combined:
    """See module.

    Attributes:
        ratio: Share of the chunks' tokens, link tokens included.
        tokens: Link tokens of each chunk; fewer where they would be more than the budget.
    """

    ratio: float = 0.15
    tokens: int = 1
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
        score = passages.attention[positions].astype(np.float64)
        for chunk in passages.chunks:
            first = int(np.searchsorted(positions, chunk.position))
            score[first : first + self.tokens] += np.inf
        order = np.argsort(-score, kind="stable")
        return np.sort(positions[order[:count]])
