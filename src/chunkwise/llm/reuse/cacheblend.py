"""The tokens whose values (or keys) in an early layer are furthest from those of a full prefill.

Source: CacheBlend (arXiv 2405.16444), sections 4.2 and 4.3; its public code has one check layer,
    values, and one choice for all layers behind it, as here. Gradual filtering (`ratios`) is the
    paper's.
Differs: tokens that were picked are computed afresh from the first layer on, where the paper keeps
    the first layers of all tokens. Rows attend by position; the public code lets a picked row see
    later ones. With `ratios` those that survive the last share are computed afresh in all layers;
    the paper computes in each layer as many as its share.
Exact when: `ratio` is 1, or the last of `ratios`.
Cost: all tokens of all chunks through the layers up to `check_layer`, as one piece of work; with
    `ratios`, those that survive through one layer more for each share but the last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
        ratios: Gradual filtering, in place of `ratio`: the share that is kept by what was compared
            at the check layer, of these those kept by the layer behind it, and so on.
    """

    ratio: float = 0.15
    of: _Of = "values"
    check_layer: int = 1
    ratios: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"`ratio` must be in [0, 1], got {self.ratio!r}.")
        if not all(a >= b for a, b in itertools.pairwise((1, *self.ratios, 0))):
            raise ConfigError(f"`ratios` must be in [0, 1] and not rise, got {self.ratios!r}.")
        if self.of not in get_args(_Of):
            raise ConfigError(f"`of` must be values or keys, got {self.of!r}.")
        if self.check_layer < 0:
            raise ConfigError(f"`check_layer` must be at least 0, got {self.check_layer!r}.")

    @property
    def evidence(self) -> Evidence:
        """See `RecomputePolicy.evidence`."""
        return Evidence(
            deviation=self.of,
            check_layer=self.check_layer,
            survivors=tuple(self.ratios[:-1]),
        )

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        assert passages.deviation is not None, "it was asked for"
        positions = passages.positions
        ratio = self.ratios[-1] if self.ratios else self.ratio
        return highest(positions, passages.deviation, round(ratio * len(positions)))
