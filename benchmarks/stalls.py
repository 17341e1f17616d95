"""How long do running sequences wait for their next token while a long prompt arrives?

    python benchmarks/stalls.py [--shape llama-190m] [--prompt 8192] [--budgets 256 512]

Question. Eight sequences decode when a prompt of 8,192 tokens comes: the largest gap between two
tokens of any of them until it has answered, against the time of one budget step: a full token
budget (the eight decoding, the rest rows of a prompt) at the same context lengths, measured between
the rounds by prompts whose beginning is in the cache. Also a prompt over reused chunks (policy
`combined`), whose question is probed and whose repaired tokens share the budget; and, as the
baseline, `prefill_first`, which computes the prompt alone. `first_step_ms` is a budget step at the
beginning of the prompt: the budget counts rows, and rows cost more the more they look at.

Goal: gap at most 1.2 times a budget step with `stall_free`.

What it does not tell: throughput, arrival of many prompts (`mixed_load.py`). Weights are random.
Checked before: logits behind a prompt beside others are those that it has alone.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch

from _machine import machine
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.models.fake import write_fake
from chunkwise.llm.scheduling import StepBudget, policies
from chunkwise.llm.sequence import Request, TokenSegment
from chunkwise.types import SamplingParams

RUNNING, OWN, CHUNK, LABEL, QUESTION = 8, 256, 256, 8, 64
GOAL = 1.2
POLICIES = {"stall_free": ("plain", "chunks"), "prefill_first": ("plain",)}

Pieces = tuple[TokenSegment, ...]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="llama-190m", help="see `models fake`")
    parser.add_argument("--prompt", type=int, default=8192)
    parser.add_argument("--budgets", type=int, nargs="*", default=[256, 512])
    parser.add_argument("--kv-mb", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_fake(given.shape, Path(folder), dtype="bfloat16")
        print(json.dumps(run(given, Path(folder))))


def run(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    llm = LLM(folder, dtype="bfloat16", kv_budget_mb=given.kv_mb, reuse=ReuseSettings("combined"))
    rng = random.Random(0)
    check(llm, some(rng, given.prompt // 8))
    rows = []
    for budget in given.budgets:
        llm.engine.queues.budget = StepBudget(budget)
        for name, kinds in POLICIES.items():
            llm.engine.queues.policy = policies.build(name)
            rows += measured(llm, name, kinds, rng, given)
    about = {"shape": given.shape, "prompt": given.prompt, "running": RUNNING}
    ours = [row for row in rows if row["policy"] == "stall_free"]
    return {"benchmark": "stalls", "machine": machine(), **about} | {
        "rows": rows,
        "is_met": all(float(str(row["gap_in_steps"])) <= GOAL for row in ours),
    }


def some(rng: random.Random, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(5, 250) for _ in range(count))


def check(llm: LLM, prompt: tuple[int, ...]) -> None:
    """Logits behind a prompt beside others are those that it has alone."""
    with Running(llm, random.Random(9)) as running:
        beside = asked(llm, (TokenSegment(prompt),))
        beside.wants_logits = True
        running.answered(beside)
    alone = asked(llm, (TokenSegment(prompt),))
    alone.wants_logits, alone.score_from = True, 1  # so nothing of it comes from the cache
    llm._run_one(alone)
    assert beside.logits is not None
    assert alone.logits is not None
    near = float(torch.cosine_similarity(beside.logits, alone.logits, dim=0))
    assert near > 0.999, f"other logits beside others: cosine {near:.5f}"


def asked(llm: LLM, pieces: Pieces, new: int = 1) -> Request:
    return llm.request(pieces, SamplingParams(max_tokens=new, ignore_eos=True))


def over_chunks(rng: random.Random, tokens: int) -> Pieces:
    """A prompt of so many tokens over chunks with labels, and a question."""
    pieces = [TokenSegment(some(rng, LABEL))]
    while sum(len(piece.token_ids) for piece in pieces) + CHUNK + LABEL + QUESTION <= tokens:
        ids = some(rng, CHUNK)
        pieces += [TokenSegment(ids, f"chunk {hash(ids)}"), TokenSegment(some(rng, LABEL))]
    left = tokens - sum(len(piece.token_ids) for piece in pieces)
    return (*pieces, TokenSegment(some(rng, left)))


class Running:
    """Sequences that decode, until the end of the block."""

    def __init__(self, llm: LLM, rng: random.Random) -> None:
        self.llm = llm
        self.ids = [
            llm._add(asked(llm, (TokenSegment(some(rng, OWN)),), 4096)) for _ in range(RUNNING)
        ]
        while not all(llm.ready(one) for one in self.ids):
            llm.step()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.ids:
            self.llm.close_request(one)

    def answered(self, request: Request) -> tuple[object, float, list[float]]:
        """Its output, the largest gap of those that run, and the time of each step, in ms."""
        llm, steps = self.llm, []
        self._step()
        last = dict.fromkeys(self.ids, time.perf_counter())
        largest, more = 0.0, 3  # steps after the answer
        llm._add(request)
        while more:
            more -= llm.engine.is_finished(request.id)
            began = time.perf_counter()
            self.llm.step()
            now = time.perf_counter()
            steps.append(1e3 * (now - began))
            for one in self.ids:
                if llm.ready(one):
                    largest, last[one] = max(largest, now - last[one]), now
        return llm.close_request(request.id), 1e3 * largest, steps

    def _step(self) -> None:
        self.llm.step()
        for one in self.ids:
            self.llm.ready(one)


def measured(
    llm: LLM, name: str, kinds: tuple[str, ...], rng: random.Random, given: argparse.Namespace
) -> list[dict[str, object]]:
    """One policy and budget; gaps and budget steps in turn."""
    budget, found = llm.engine.queues.budget.tokens, {kind: [] for kind in kinds}
    budget_steps, first_steps, decodes = [], [], []
    for _ in range(given.rounds):
        plain = some(rng, given.prompt)
        prompts = {"plain": (TokenSegment(plain),), "chunks": over_chunks(rng, given.prompt)}
        if "chunks" in kinds:
            llm.admit(prompts["chunks"])
        with Running(llm, rng) as running:
            for kind in kinds:
                _, gap, steps = running.answered(asked(llm, prompts[kind]))
                found[kind].append(gap)
                if kind == "plain":
                    first_steps.append(steps[0])
                    decodes.append(steps[-1])
            for _ in range(3):  # the beginning is in the cache, the rest is one step
                own = budget - RUNNING
                behind = (TokenSegment((*plain[:-own], *some(rng, own))),)
                budget_steps.append(max(running.answered(asked(llm, behind))[2]))
    step = statistics.median(budget_steps)
    rows = []
    for kind, gaps in found.items():
        row = {
            "policy": name,
            "budget": budget,
            "kind": kind,
            "gap_ms": round(statistics.median(gaps), 1),
        }
        row |= {"largest_gap_ms": round(max(gaps), 1), "budget_step_ms": round(step, 1)}
        row |= {"gap_in_steps": round(statistics.median(gaps) / step, 2)}
        row |= {"first_step_ms": round(statistics.median(first_steps), 1)}
        row |= {"decode_ms": round(statistics.median(decodes), 1)}
        rows.append(row)
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()
