"""The `EvictionPolicy` protocol: which stored chunks leave memory first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chunkwise.registry import Registry


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of a chunk at the moment it is stored or taken.

    Attributes:
        now: The moment, in lookups by chunk in memory: each time that a chunk is stored or taken
            adds one, divided by how many there are.
        uses: How often this one was, this time included.
        saved_ms: What having it in memory saves each time: predicted time of loading it, or of
            computing it where it is not on disk.
        nbytes: What it takes.
        rank: The rank it had; -inf for a new one.
        floor: Highest rank of those that were evicted; 0 before any was.
    """

    now: float
    uses: int
    saved_ms: float
    nbytes: int
    rank: float
    floor: float

    @property
    def saved_per_byte(self) -> float:
        """Milliseconds that a byte saves each time."""
        return self.saved_ms / max(self.nbytes, 1)


class EvictionPolicy(Protocol):
    """Ranks chunks. A frozen dataclass whose fields are its options."""

    def rank(self, usage: Usage) -> float:
        """The rank of a chunk from now on; of those nobody holds the lowest goes first."""
        ...


policies: Registry[EvictionPolicy] = Registry("chunkwise.llm.eviction")
