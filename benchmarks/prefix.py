"""How long do exact prefix look-ups, insertions and evictions take?

Why: every waiting prompt is looked up in every step, so this must be nothing beside a step.
Measured at 10,000 segments in the tree, with prompts of a few hundred tokens that share their
first 32, and with prompts of 100,000 tokens. Baseline: comparing with every prompt in turn, in
numpy, as a store without a tree would.

What it does not tell: anything about attention or copying rows. A row here is two numbers, and
the memory of segments is hardly touched, which real ones do (`benchmarks/segments.py`).

    python benchmarks/prefix.py [--nodes 10000] [--long 100000]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from _machine import machine
from chunkwise.llm.kv.prefix import common_length
from chunkwise.llm.kv.segments import KVShape, SegmentPool, SequenceKV, TokenIds

SHAPE = KVShape(1, 1, 1, torch.float32, torch.device("cpu"))
SHARED, OWN = 32, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {"machine": machine(), **many(args.nodes, args.repeats)}
    result |= long(args.long, args.repeats)
    for name, value in result.items():
        print(f"{name:>24}  {value}")
    print(json.dumps(result))


def many(nodes: int, repeats: int) -> dict[str, float]:
    """Microseconds per operation in a tree of `nodes` segments."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(0, 32_000, (nodes, SHARED + OWN), dtype=np.int32)
    prompts[:, :SHARED] = prompts[0, :SHARED]
    pool = SegmentPool(SHAPE, (nodes * OWN + SHARED) * SHAPE.bytes_per_token)
    for prompt in prompts:
        request(pool, prompt)
    assert pool.tree.num_nodes == nodes, "every prompt must be there"
    asked = [prompts[i] for i in rng.integers(0, nodes, 200)]
    for prompt in asked:
        assert pool.tree.match(prompt).length == len(prompt) == scan(prompts, prompt)
    new = rng.integers(0, 32_000, (repeats * 200, SHARED + OWN), dtype=np.int32)
    batches = iter(np.split(new, repeats))
    found = {
        "match_us": timed(lambda: [pool.tree.match(p) for p in asked], repeats) / 200,
        "scan_us": timed(lambda: [scan(prompts, p) for p in asked[:10]], repeats) / 10,
        "request_evict_us": timed(lambda: [request(pool, p) for p in next(batches)], repeats, 0)
        / 200,
    }
    assert pool.num_evicted >= repeats * 200, "every new prompt must push one out"
    pool.check([])
    return {name: round(1e6 * seconds, 1) for name, seconds in found.items()}


def long(tokens: int, repeats: int) -> dict[str, float]:
    """Microseconds for one prompt of many tokens: in one segment, and over a chat of 200 turns."""
    rng = np.random.default_rng(1)
    prompt = rng.integers(0, 32_000, tokens, dtype=np.int32)
    whole, turns = (SegmentPool(SHAPE, 2 * tokens * SHAPE.bytes_per_token) for _ in range(2))
    request(whole, prompt)
    for end in range(tokens // 200, tokens + 1, tokens // 200):
        request(turns, prompt[:end])
    found = {}
    for name, pool in (("long", whole), ("long_turns", turns)):
        assert pool.tree.match(prompt).length == tokens
        found[f"{name}_match_us"] = timed(lambda p=pool: p.tree.match(prompt), repeats)
        found[f"{name}_request_us"] = timed(lambda p=pool: request(p, prompt), repeats)
    found["long_equal_us"] = timed(lambda: np.array_equal(prompt, prompt.copy()), repeats)
    return {name: round(1e6 * seconds, 1) for name, seconds in found.items()}


def request(pool: SegmentPool, prompt: TokenIds) -> None:
    """All that a request does to the books: match, reserve, compute, release."""
    kv = SequenceKV(pool)
    kv.match(prompt[:-1])
    kv.reserve(len(prompt), prompt, hint=len(prompt))
    kv.mark_computed(len(prompt))
    kv.release()


def scan(prompts: TokenIds, prompt: TokenIds) -> int:
    """The longest common prefix with any prompt, without a tree."""
    return max(common_length(other, prompt) for other in prompts)


def timed(run: Callable[[], object], repeats: int, warm_up: int = 1) -> float:
    """Median seconds of a call."""
    taken = []
    for i in range(warm_up + repeats):
        start = time.perf_counter()
        run()
        taken += [time.perf_counter() - start] if i >= warm_up else []
    return statistics.median(taken)


if __name__ == "__main__":
    main()
