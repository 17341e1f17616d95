"""Nothing is computed afresh: chunks are read as they were behind the anchor.

Exact when: the only chunk stands right behind the anchor.
Measured: benchmarks/reuse_quality.py; loses most where chunks speak of one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chunkwise.llm.reuse.base import Evidence, Passages, Positions

__all__ = ["NoRecompute"]


@dataclass(frozen=True)
class NoRecompute:
    """See module."""

    evidence = Evidence()

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        del passages
        return np.zeros(0, np.int32)
