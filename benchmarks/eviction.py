"""Which chunks should leave memory first?

    python benchmarks/eviction.py [--lookups 40000]

Question. Chunks of 32 to 512 tokens are asked for, eight at a time, and memory holds a tenth of
them. Which share of the lookups is found, and which share of the time of computing or loading them
is saved, by eviction policy? Traces: `zipf` (popularity as of a Zipf law of exponent 1), `moving`
(the same, but every tenth of the trace others are popular), `scan` (zipf, and in between all chunks
one after the other), `uniform`, and `disk` (zipf; every second chunk is on disk, where it is a
hundred times cheaper to get back).

Baseline in the same run: `lru`. What it does not tell: time; numbers are the store's own, with
predicted costs. Checked first: no policy exceeds the budget.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from _machine import machine
from chunkwise.llm.costs import CostModel, Work
from chunkwise.llm.eviction import policies
from chunkwise.llm.kv.memory import Segment
from chunkwise.llm.kv.store import ChunkStore, Entry

CHUNKS, TOGETHER, SHARE = 2000, 8, 0.1
QWEN = Work(row=7.2e8, pair=8.6e4)  # qwen2.5-0.5b


class Simulated(ChunkStore):
    """A store whose lookups by number are counted."""

    def __init__(self, policy: str, sizes: np.ndarray, on_disk: set[str]) -> None:
        # Two bytes by token for keys, and two for values.
        super().__init__(int(SHARE * sizes.sum()) * 4, policies.build(policy), CostModel(QWEN))
        self.sizes, self.on_disk = sizes, on_disk
        self.hits = 0
        self.saved = self.total = 0.0

    def look_up(self, number: int) -> None:
        name, tokens = str(number), int(self.sizes[number])
        ms = self.ms(name, tokens)
        self.total += ms
        ids = np.full(tokens, number, np.int32)
        if self.get(name, ids) is not None:
            self.hits += 1
            self.saved += ms
        else:
            half = torch.empty(1, 1, tokens, 1, dtype=torch.int16)
            self.put(name, Segment(half, half, ids, 0, tokens, tokens, tokens, 0))
        assert self.used_bytes <= self.budget_bytes, "over the budget"

    def saved_ms(self, entry: Entry) -> float:
        return self.ms(entry.content_id, entry.segment.capacity)

    def ms(self, name: str, tokens: int) -> float:
        """What it takes to get a chunk back."""
        return self.costs.compute_ms(tokens) * (0.01 if name in self.on_disk else 1.0)


def traces(lookups: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Numbers of chunks, in the order in which they are asked for."""
    weights = 1 / np.arange(1, CHUNKS + 1)
    weights /= weights.sum()
    draws = lookups // TOGETHER

    def zipf(order: np.ndarray, times: int) -> np.ndarray:
        some = [rng.choice(order, TOGETHER, replace=False, p=weights) for _ in range(times)]
        return np.concatenate(some)

    fixed = rng.permutation(CHUNKS)
    parts = [zipf(fixed, draws // 10) for _ in range(10)]
    scanned = [part for some in parts for part in (some, np.arange(CHUNKS))]
    return {
        "zipf": zipf(fixed, draws),
        "moving": np.concatenate([zipf(rng.permutation(CHUNKS), draws // 10) for _ in range(10)]),
        "scan": np.concatenate(scanned),
        "uniform": rng.integers(0, CHUNKS, lookups),
        "disk": zipf(fixed, draws),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lookups", type=int, default=40_000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = rng.integers(32, 513, CHUNKS)
    half = {str(i) for i in range(0, CHUNKS, 2)}
    rows = []
    for trace, numbers in traces(given.lookups, rng).items():
        for policy in policies.own:
            store = Simulated(policy, sizes, half if trace == "disk" else set())
            for number in numbers.tolist():
                store.look_up(number)
            share = {"hits": store.hits / len(numbers), "saved": store.saved / store.total}
            named = {"trace": trace, "policy": policy}
            rows.append(named | {key: round(value, 4) for key, value in share.items()})
            print(rows[-1], flush=True)
    print(json.dumps({"benchmark": "eviction", "machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
