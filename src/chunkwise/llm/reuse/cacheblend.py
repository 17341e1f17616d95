"""The tokens whose values (or keys) in an early layer are furthest from those of a full prefill.

Source: CacheBlend (arXiv 2405.16444), sections 4.2 and 4.3; its public code has one check layer,
    values, and one choice for all layers behind it, as here.
Differs: tokens that were picked are computed afresh from the first layer on, where the paper keeps
    the first layers of all tokens. Rows attend by position; the public code lets a picked row see
    later ones. No gradual filtering.
Exact when: `ratio` is 1.
Cost: all tokens of all chunks through the layers up to `check_layer`, as one piece of work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from chunkwise.errors import ConfigError
from chunkwise.llm.reuse.base import Evidence, Passages, Positions, highest

__all__ = ["CacheBlend"]

_Of = Literal["values", "keys"]


@dataclass(frozen=True)
class CacheBlend:
    """See module.

    Attributes:
        ratio: Share of the chunks' tokens.
        of: What is compared: values, as the paper's code does, or keys, as LMCache.
        check_layer: Where, from 0.
    """

    ratio: float = 0.15
    of: _Of = "values"
    check_layer: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"`ratio` must be in [0, 1], got {self.ratio!r}.")
        if self.of not in get_args(_Of):
            raise ConfigError(f"`of` must be values or keys, got {self.of!r}.")
        if self.check_layer < 0:
            raise ConfigError(f"`check_layer` must be at least 0, got {self.check_layer!r}.")

    @property
    def evidence(self) -> Evidence:
        """See `RecomputePolicy.evidence`."""
        return Evidence(deviation=self.of, check_layer=self.check_layer)

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        assert passages.deviation is not None, "it was asked for"
        positions = passages.positions
        return highest(positions, passages.deviation, round(self.ratio * len(positions)))
