"""What chunks would cost a local model now: where they are, and predicted milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chunkwise.llm.local import LLM
from chunkwise.llm.sequence import TokenSegment
from chunkwise.types import SamplingParams

_TRIAL_TOKENS, _TRIALS = 64, 3


class ChunkCost(NamedTuple):
    """What a chunk costs in the next prompt.

    Attributes:
        where: Where it is: `memory`, `disk`, or `none`.
        ms: Predicted time until the model has read it: loading or computing it, and computing
            afresh what the recompute policy will pick, as far as seen so far.
    """

    where: str
    ms: float


def chunk_costs(llm: LLM, chunks: Sequence[TokenSegment]) -> list[ChunkCost]:
    """What each chunk costs now. The first time, if nothing was computed yet, a short prompt is.

    Args:
        llm: The model.
        chunks: With content ids, as `LLM.segments` gives them; one without is computed.
    """
    _measure(llm)
    with llm.exclusive:
        return [_cost(llm, chunk) for chunk in chunks]


def compute_ms(llm: LLM, sizes: Sequence[int]) -> float:
    """Predicted time of computing prompts of so many tokens; the first time as `chunk_costs`."""
    _measure(llm)
    return sum(map(llm.engine.costs.compute_ms, sizes))


def _measure(llm: LLM) -> None:
    """Have something to predict from."""
    for token in range(_TRIALS):
        if not llm.engine.costs.is_measured:
            trial = TokenSegment((token,) * min(_TRIAL_TOKENS, llm.engine.max_tokens - 1))
            llm.run([llm.request((trial,), SamplingParams(max_tokens=1))])


def _cost(llm: LLM, chunk: TokenSegment) -> ChunkCost:
    costs, reuse, rows = llm.engine.costs, llm.engine.reuse, len(chunk.token_ids)
    computing = costs.compute_ms(rows)
    if reuse is None or chunk.content_id is None:
        return ChunkCost("none", computing)
    where = reuse.store.where(chunk.content_id, np.array(chunk.token_ids, np.int32))
    again = reuse.share_computed * computing
    loading = costs.load_ms(rows * llm.engine.pool.shape.bytes_per_token)
    first = {"memory": 0.0, "disk": min(loading, computing), "none": computing}[where]
    return ChunkCost(where, first + again)
