"""Rank fusion: several rankings of hits become one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from chunkwise.types import Hit


def reciprocal_ranks(
    rankings: Sequence[Sequence[Hit]], *, k: float = 60.0, weights: Sequence[float] | None = None
) -> list[Hit]:
    """Hits of all rankings by the sum of `weight / (k + rank)`, ranks from 1; ties by content id.

    A hit that several rankings have is shown as in the first of them, with the scores of all.

    Args:
        rankings: Each best first, one hit a content.
        k: Larger values trust the top of a ranking less.
        weights: One a ranking; None: all 1.
    """
    fused: dict[str, tuple[Hit, float, dict[str, float]]] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, hit in enumerate(ranking, 1):
            first, score, scores = fused.get(hit.chunk.id, (hit, 0.0, {}))
            fused[hit.chunk.id] = first, score + weight / (k + rank), {**scores, **hit.scores}
    hits = [
        dataclasses.replace(hit, score=score, scores={**scores, "rrf": score})
        for hit, score, scores in fused.values()
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id))
