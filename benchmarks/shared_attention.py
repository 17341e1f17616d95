"""How much faster do sequences decode that share their context, chunk by chunk?

    python benchmarks/shared_attention.py [--shape llama-190m] [--sequences 32] [--new 16]

Question. 32 sequences decode over the same 16 chunks of 256 tokens (4,096), each with a question of
its own: chunks in one order for all, in another order for each, and, as the baseline in the same
run, as prompts of their own that share nothing. A chunk that several sequences hold is one segment,
whose keys are read once a step for all of them, wherever it stands in each (Hydragen, arXiv
2402.05099, without its common prefix). The same with 1,024 to 8,192 shared tokens.

Tokens a second of decoding alone: the time with `--new` + 1 tokens less the time with one.

What it does not tell. Quality: weights are random, and nothing is computed afresh.
Checked before: logits of sequences decoded together are those of each decoded alone.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from _machine import checkpoint, machine
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.sequence import Request, TokenSegment
from chunkwise.types import SamplingParams

CHUNK, QUESTION = 256, 16
SIZES, CONTEXT = (1024, 2048, 8192), 4096
GOAL = 4.0

Pieces = tuple[TokenSegment, ...]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="llama-190m", help="see `models fake`")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--new", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with checkpoint(given.shape) as folder:
        print(json.dumps(run(given, folder)))


def run(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    rng = random.Random(0)
    some = Drawn(rng, given.sequences)
    shared = LLM(folder, dtype="bfloat16", kv_budget_mb=2048, reuse=ReuseSettings("none"))
    check(shared, some)
    rows = [
        measured("same order", shared, lambda: some.prompts(CONTEXT, is_shuffled=False), given),
        measured("any order", shared, lambda: some.prompts(CONTEXT, is_shuffled=True), given),
    ]
    for size in SIZES:
        make: Callable[[], list[Pieces]] = lambda size=size: some.prompts(size, is_shuffled=True)  # noqa: E731
        rows.append(measured(f"any order, {size}", shared, make, given))
    del shared
    apart = LLM(folder, dtype="bfloat16", kv_budget_mb=8192)
    rows.append(
        measured("nothing shared", apart, lambda: some.prompts(CONTEXT, is_own=True), given)
    )
    base = float(str(rows[-1]["tokens_per_s"]))
    for row in rows:
        row["times_as_fast"] = round(float(str(row["tokens_per_s"])) / base, 2)
        print(row, flush=True)
    is_met = all(float(str(row["times_as_fast"])) >= GOAL for row in rows[:2])
    about = {"shape": given.shape, "sequences": given.sequences, "context": CONTEXT}
    return {"benchmark": "shared_attention", "machine": machine(), **about} | {
        "rows": rows,
        "is_met": is_met,
    }


class Drawn:
    """Chunks of random tokens and prompts over them."""

    def __init__(self, rng: random.Random, sequences: int) -> None:
        self.rng, self.sequences = rng, sequences
        count = max(*SIZES, CONTEXT) // CHUNK
        self.chunks = [TokenSegment(self._some(CHUNK), f"chunk {i}") for i in range(count)]

    def prompts(
        self, size: int, *, is_shuffled: bool = False, is_own: bool = False
    ) -> list[Pieces]:
        """A prompt for each sequence: shared chunks, or tokens of its own."""
        found = []
        for _ in range(self.sequences):
            chunks = self.chunks[: size // CHUNK]
            if is_shuffled:
                chunks = self.rng.sample(chunks, len(chunks))
            if is_own:
                chunks = [TokenSegment(self._some(size))]
            found.append((*chunks, TokenSegment(self._some(QUESTION))))
        return found

    def _some(self, count: int) -> tuple[int, ...]:
        return tuple(self.rng.randrange(5, 250) for _ in range(count))


def check(llm: LLM, some: Drawn) -> None:
    """Decoded together, sequences have the logits that each has alone, but for bfloat16's noise."""
    prompts = some.prompts(1024, is_shuffled=True)[:4]
    llm.admit(piece for pieces in prompts for piece in pieces)
    together = [request(llm, pieces, 1) for pieces in prompts]
    alone = [request(llm, pieces, 1) for pieces in prompts]
    for one in (*together, *alone):
        one.wants_logits = True
    llm.run(together)
    for one in alone:
        llm.run([one])
    for a, b in zip(together, alone, strict=True):
        assert a.logits is not None
        assert b.logits is not None
        near = torch.cosine_similarity(a.logits.float(), b.logits.float(), dim=0)
        assert near > 0.999, f"logits are not those of the sequence alone: {float(near):.5f}"


def request(llm: LLM, pieces: Pieces, new: int) -> Request:
    return llm.request(pieces, SamplingParams(max_tokens=new, ignore_eos=True))


def measured(
    name: str, llm: LLM, make: Callable[[], list[Pieces]], given: argparse.Namespace
) -> dict[str, object]:
    """Tokens a second of all sequences together; their prompts are in the cache."""
    prompts, rates = make(), []
    if llm.engine.reuse:
        llm.admit(prompts[0])
    llm.run([request(llm, pieces, 2) for pieces in prompts])
    for _ in range(given.rounds):
        took = []
        for new in (1, given.new + 1):
            began = time.perf_counter()
            llm.run([request(llm, pieces, new) for pieces in prompts])
            took.append(time.perf_counter() - began)
        rates.append(given.sequences * given.new / (took[1] - took[0]))
    found = {"name": name, "tokens_per_s": round(statistics.median(rates), 1)}
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
