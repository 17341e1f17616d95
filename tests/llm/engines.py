"""Small engines, and what to ask them."""

from __future__ import annotations

import random
from pathlib import Path

from chunkwise.llm.local import LLM
from chunkwise.types import SamplingParams


def greedy(max_tokens: int = 12, **more: object) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, ignore_eos=True, **more)  # type: ignore[arg-type]


def engine(folder: Path, tokens: int = 4096, **options: object) -> LLM:
    """An engine whose KV budget holds so many tokens."""
    llm = LLM(folder, dtype="float32", kernels="reference", kv_budget_mb=1, **options)  # type: ignore[arg-type]
    shape = llm.engine.pool.shape
    llm.engine.pool.budget_bytes = tokens * shape.bytes_per_token
    llm.engine.max_tokens = min(llm.engine.context, tokens)
    return llm


def prompts(n: int, seed: int = 0, longest: int = 60) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(256) for _ in range(rng.randint(1, longest))] for _ in range(n)]


def alone(oracle: LLM, asked: list[list[int]], sampling: SamplingParams) -> list[list[int]]:
    return [oracle.generate([p], sampling)[0].token_ids for p in asked]
