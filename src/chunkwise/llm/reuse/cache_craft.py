"""Tokens that looked most at what stood before their chunk, as many as its place asks for.

When a chunk is computed alone, it is noted how much each token attends to the anchor, and all of
them to one another. A chunk that looked outside much, and that now stands behind what it has not
seen, has more tokens computed afresh; one that the question does not look at has none.

Source: Cache-Craft (arXiv 2502.15734): contextualisation, prefix overlap and order, fix overhead,
    focused chunks. No code of the authors is public.
Differs: chunks are computed behind the anchor alone and kept in one variant, so what a chunk has
    seen is as much of the anchor as the prompt begins with; where that is all of it and nothing
    else precedes the chunk, nothing is repaired. New chunks: see `unseen`. The paper watches the
    question layer by layer and stops repairing chunks when it has settled on others; here it has
    been read over all layers before anything is repaired, and a chunk is repaired in all layers
    or in none. Which tokens of a chunk: the paper's rule, or CacheBlend's (`by`).
Exact when: `alpha` is at least 4 and `gap` 0.
Cost: with `gap`, the question is computed twice. Attention of each chunk in plain torch, once.
Hurts: chunks of ten tokens (docs/log.md, 2026-11-27): a chunk's first tokens have little else to
    look at than the anchor, so they are what is picked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.llm.reuse._overhead import Unseen, overheads
from chunkwise.llm.reuse.base import Evidence, Passages, Positions, highest

__all__ = ["CacheCraft"]

_By = Literal["outside", "values", "keys"]


@dataclass(frozen=True)
class CacheCraft:
    """See module.

    Attributes:
        alpha: Factor on the share of a chunk that is computed afresh, which is cut off at 1.
        gap: Chunks are told apart where the question looks at a token of the last focused one so
            many times as much as at one of the next, at the widest gap between two; else all are
            focused. 0: they are always.
        unseen: What new chunks in front count. `all`: nothing of what a chunk has seen counts
            then. `share`: as many as what it has seen, so those far back get more.
        by: Which tokens of a chunk: those that looked most outside of it, or those whose values or
            keys in the second layer are furthest from a full prefill's, as in `cacheblend`.
    """

    alpha: float = 1.0
    gap: float = 1.5
    unseen: Unseen = "all"
    by: _By = "outside"

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ConfigError(f"`alpha` must be at least 0, got {self.alpha!r}.")
        if self.gap and not self.gap >= 1:
            raise ConfigError(f"`gap` must be 0 or at least 1, got {self.gap!r}.")
        if self.unseen not in get_args(Unseen):
            raise ConfigError(f"`unseen` must be all or share, got {self.unseen!r}.")
        if self.by not in get_args(_By):
            raise ConfigError(f"`by` must be outside, values or keys, got {self.by!r}.")

    @property
    def evidence(self) -> Evidence:
        """See `RecomputePolicy.evidence`."""
        deviation = "" if self.by == "outside" else self.by
        return Evidence(attention=bool(self.gap), deviation=deviation, statistics=True)

    def pick(self, passages: Passages) -> Positions:
        """See `RecomputePolicy.pick`."""
        assert passages.statistics is not None, "they were asked for"
        found = [np.zeros(0, np.int32)]
        parts = zip(
            passages.chunks,
            passages.statistics,
            overheads(passages, self.unseen),
            self._focused(passages).tolist(),
            strict=True,
        )
        for (first, end), statistics, overhead, is_focused in parts:
            if is_focused:
                score = statistics.external
                if self.by != "outside":
                    assert passages.deviation is not None, "it was asked for"
                    score = passages.deviation[first:end]
                own = np.arange(end - first, dtype=np.int32)
                count = math.ceil(min(self.alpha * overhead, 1.0) * len(own))
                found.append(first + highest(own, score, count))
        return np.concatenate(found)

    def _focused(self, passages: Passages) -> NDArray[np.bool_]:
        """Which chunks are repaired."""
        if not self.gap:
            return np.ones(len(passages.chunks), np.bool_)
        assert passages.attention is not None, "it was asked for"
        looked = [float(passages.attention[slice(*chunk)].mean()) for chunk in passages.chunks]
        return focused(np.array(looked), self.gap)


def focused(looked: NDArray[np.float64], gap: float) -> NDArray[np.bool_]:
    """Those above the widest gap between two neighbours in order, if the one above it is at least
    `gap` times the one below; else all."""
    order = np.sort(looked)[::-1]
    if len(order) < 2:
        return np.ones(len(order), np.bool_)
    widest = int(np.argmax(order[:-1] - order[1:]))
    if order[widest] < gap * order[widest + 1]:
        return np.ones(len(order), np.bool_)
    found: NDArray[np.bool_] = looked >= order[widest]
    return found
