"""What saves least by byte, times how often it was used; those in memory age as others leave.

Source: Greedy-Dual-Size with frequency (Cherkasova, HPL-98-69R1, 1998); RAGCache
    (arXiv 2404.12457), section 5.1, orders chunks by it.
Differs: cost is the predicted time of getting the chunk back.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.llm.eviction.base import Usage

__all__ = ["GreedyDualSizeFrequency"]


@dataclass(frozen=True)
class GreedyDualSizeFrequency:
    """See module."""

    def rank(self, usage: Usage) -> float:
        """See `EvictionPolicy.rank`."""
        return usage.floor + usage.uses * usage.saved_per_byte
