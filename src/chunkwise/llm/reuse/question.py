"""What the question looks at is computed afresh.

The question is computed once over the chunks as they are; the tokens that its rows attend to most,
over all heads of the first two thirds of the layers, are then computed behind what really precedes
them, and the question again behind these.

Source: ours; selection by the question as in SnapKV and InfiniRetri, applied to recomputation.
Exact when: `ratio` is 1.
Cost: the question and the text between chunks are computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.llm.reuse.base import Evidence, Passages, Positions, highest

__all__ = ["ByQuestion"]


@dataclass(frozen=True)
class ByQuestion:
    """See module.

    Attributes:
        ratio: Share of the chunks' tokens.
    """

    ratio: float = 0.15
    evidence = Evidence(attention=True)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"`ratio` must be in [0, 1], got {self.ratio!r}.")

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        assert passages.attention is not None, "it was asked for"
        positions = passages.positions
        return highest(positions, passages.attention, round(self.ratio * len(positions)))
