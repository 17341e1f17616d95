"""What was used longest ago goes first.

Source: none; the usual baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.llm.eviction.base import Usage

__all__ = ["LeastRecentlyUsed"]


@dataclass(frozen=True)
class LeastRecentlyUsed:
    """See module."""

    def rank(self, usage: Usage) -> float:
        """See `EvictionPolicy.rank`."""
        return usage.now
