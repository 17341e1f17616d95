"""Everything is computed afresh: a full prefill, for comparison.

Exact when: always.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.llm.reuse.base import Evidence, Passages, Positions

__all__ = ["RecomputeAll"]


@dataclass(frozen=True)
class RecomputeAll:
    """See module."""

    evidence = Evidence()

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        return passages.positions
