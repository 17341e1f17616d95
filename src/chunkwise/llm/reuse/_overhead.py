"""How much of a chunk is to be computed afresh, from how it attended when it was computed.

The formulas of Cache-Craft are of chunks computed behind any others. Here all are computed behind
the anchor alone, which a prompt may begin with in part: a chunk has then seen two pieces of text,
of which one precedes it now. What the paper leaves open is decided in `seen` and `overheads`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping
from collections.abc import Sequence as Items
from typing import Literal

from chunkwise.llm.reuse.base import Passages

Unseen = Literal["all", "share"]

_SHARED, _REST, _PREFIX = "shared", "rest", "prefix"  # pieces of the anchor, and of the prompt


def prefix_overlap(before: Mapping[Hashable, float], now: Items[Hashable]) -> float:
    """Share of a chunk's attention to what preceded it that is on what precedes it now (beta).

    Args:
        before: Attention to each of the pieces that preceded it; with none, 0 is returned, or 1
            if none precedes it now.
        now: The pieces that do now.
    """
    if not before:
        return 0.0 if now else 1.0
    total = math.fsum(before.values())
    kept = math.fsum(mass for piece, mass in before.items() if piece in now)
    return kept / total if total else 1.0


def order_penalty(before: Items[Hashable], now: Items[Hashable]) -> float:
    """Share of the pairs of common pieces that stand in the other order now (gamma); 0 of fewer
    than two common pieces."""
    places = [now.index(piece) for piece in before if piece in now]
    pairs = list(itertools.combinations(places, 2))
    return sum(a > b for a, b in pairs) / len(pairs) if pairs else 0.0


def seen(before: Mapping[Hashable, float], now: Items[Hashable], unseen: Unseen) -> float:
    """How far a chunk has seen what precedes it now, in [0, 1] (beta'): overlap, order, and what
    is new.

    Args:
        before: As in `prefix_overlap`, in order.
        now: Likewise.
        unseen: What pieces count that it has never seen. `share`: as many as the others, so the
            overlap is scaled by the share of `now` that is in `before`. `all`: with any of them
            nothing counts as seen, as of a chunk that was computed behind nothing.
    """
    common = sum(piece in before for piece in now)
    if unseen == "all" and common < len(now):
        return 0.0
    overlap = prefix_overlap(before, now) * (1 - order_penalty(list(before), now))
    return overlap * common / len(now) if now else overlap


def contextualisation(inter: float, intra: float) -> float:
    """How much a chunk looks outside (CCI), in [0.5, 1]: `1 / (1 + exp(-inter / intra))`.

    Args:
        inter: Mean weight on a token before the chunk.
        intra: Mean weight on a token of its own; 0 of a chunk of one token: 1 is returned, or 0.5
            if `inter` is 0 too.
    """
    if not intra:
        return 1.0 if inter else 0.5
    return 1 / (1 + math.exp(-inter / intra))


def overheads(passages: Passages, unseen: Unseen) -> Iterator[float]:
    """For each chunk the share that is to be computed afresh at `alpha` 1, in [0, 1]:
    contextualisation, scaled by how much of what precedes it it has not seen. All tokens of the
    anchor count alike."""
    assert passages.statistics is not None, "they were asked for"
    shared, rest = passages.shared, passages.anchor - passages.shared
    for chunk, now in zip(passages.statistics, _preceding(passages), strict=True):
        pieces = ((_SHARED, shared), (_REST, rest))
        before: dict[Hashable, float] = {name: chunk.inter * n for name, n in pieces if n}
        cci = contextualisation(chunk.inter, chunk.intra)
        yield cci * (1 - seen(before, now, unseen))


def _preceding(passages: Passages) -> Iterator[list[Hashable]]:
    """What precedes each chunk: what the prompt begins with of the anchor; other text before the
    first chunk; the chunks. A rest of the anchor that does not precede it is such text too."""
    found: list[Hashable] = [_SHARED] if passages.shared else []
    if passages.chunks and not passages.shared == passages.anchor == passages.chunks[0].first:
        found.append(_PREFIX)
    for i in range(len(passages.chunks)):
        yield list(found)
        found.append(i)
