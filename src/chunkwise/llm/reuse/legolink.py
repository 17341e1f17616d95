"""The first tokens of each chunk are computed afresh.

Source: EPIC, LegoLink (arXiv 2410.15332): a chunk's first tokens draw attention as the first of a
    text would; computed behind what really precedes them, they do no more.
Exact when: `tokens` is at least the length of every chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.llm.reuse.base import Evidence, Passages, Positions

__all__ = ["LegoLink"]


@dataclass(frozen=True)
class LegoLink:
    """See module.

    Attributes:
        tokens: Of each chunk.
    """

    tokens: int = 4
    evidence = Evidence()

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ConfigError(f"`tokens` must be at least 0, got {self.tokens!r}.")

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        runs = [
            np.arange(chunk.first, min(chunk.first + self.tokens, chunk.end), dtype=np.int32)
            for chunk in passages.chunks
        ]
        return np.concatenate(runs) if runs else np.zeros(0, np.int32)
