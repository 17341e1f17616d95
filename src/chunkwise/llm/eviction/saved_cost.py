"""What is expected to save least time by byte: uses count, the older the less.

A use counts half once each chunk in memory has been taken `half_life` times, on average. Each use
adds what it saved, so a chunk that went to disk in between, where it is cheap to get back, is worth
less from then on.

Source: ours; uses that fade as in LRFU (Lee et al., IEEE Trans. Computers 50(12), 2001) times cost
    by byte as in Cache-Craft (arXiv 2502.15734), section 3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.llm.eviction.base import Usage

__all__ = ["SavedCost"]


@dataclass(frozen=True)
class SavedCost:
    """See module.

    Attributes:
        half_life: Lookups by chunk in memory until a use counts half.
    """

    half_life: float = 4.0

    def __post_init__(self) -> None:
        if self.half_life <= 0:
            raise ConfigError(f"`half_life` must be above 0, got {self.half_life!r}.")

    def rank(self, usage: Usage) -> float:
        """See `EvictionPolicy.rank`. A logarithm, so that ranks of other moments compare."""
        value = max(usage.saved_per_byte, 1e-300)
        return _log2_sum(usage.rank, usage.now / self.half_life + math.log2(value))


def _log2_sum(a: float, b: float) -> float:
    """log2(2**a + 2**b)."""
    low, high = sorted((a, b))
    return high + math.log2(1 + 2.0 ** (low - high))
