"""Who came first goes first.

Source: none; what servers do.
Exact when: always; only the order of work changes.   Cost: O(admitted) a step.
Helps / hurts: nobody is overtaken; what waiting prompts share may have left the cache when the
next one comes that has it.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from chunkwise.llm.sequence import Sequence

__all__ = ["ArrivalOrder"]


@dataclass(frozen=True, slots=True)
class ArrivalOrder:
    """In order of arrival, by priority."""

    def first(
        self, running: Items[Sequence], waiting: Items[Sequence], count: int
    ) -> list[Sequence]:
        """See `QueueOrder.first`."""
        return list(waiting[:count])
