"""Does a batch job run faster when its prompts are looked at together?

    python benchmarks/batch.py [--shape tiny-llama] [--prompts 240] [--groups 12]

Question. A few hundred prompts of a job, in random order, over shared beginnings (`prefixes`) or
over shared sets of chunks in any order (`chunks`, read once with policy `legolink`), with a KV
budget (and a chunk store) far too small for all. Answers have two lengths. `generate_batch` against
`generate` on the same engine, emptied before each, interleaved: requests a second, rows computed,
largest KV held, preemptions. Weights are random.

What it does not tell. Answers of unknown length (here each takes its `max_tokens`), jobs beside
other requests, quality of reused chunks (`reuse_quality.py`), other servers. The default shape is
so small that a row costs little: use `--shape llama-190m` for the rate.
Checked before: tokens are the same both ways, in float32 with the reference kernels.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from _machine import checkpoint, machine
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.types import Prompt, SamplingParams, Segment

HEAD, CHUNKS, CHUNK, QUESTION = 384, 4, 96, 24
NEW = (8, 48)

Job = tuple[list[Prompt], list[SamplingParams]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="tiny-llama", help="see `models fake`")
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--groups", type=int, default=12, help="of prompts that share")
    parser.add_argument("--kv-tokens", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with checkpoint(given.shape) as folder:
        print(json.dumps(run(given, folder)))


def run(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    rows = []
    for kind, make in (("prefixes", over_prefixes), ("chunks", over_chunks)):
        check(opened(folder, given, kind, is_exact=True), make(random.Random(1), 24, 4))
        llm, job = opened(folder, given, kind), make(random.Random(0), given.prompts, given.groups)
        rows += compared(kind, llm, job, given.rounds)
    about = {"shape": given.shape, "prompts": given.prompts, "groups": given.groups}
    return {"benchmark": "batch", "machine": machine(), **about} | {
        "kv_tokens": given.kv_tokens,
        "rows": rows,
    }


def text(rng: random.Random, count: int) -> str:
    """So many tokens of the byte tokenizer."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(count))


def over_prefixes(rng: random.Random, prompts: int, groups: int) -> Job:
    """Each begins like the others of its group."""
    heads = [text(rng, HEAD) for _ in range(groups)]
    asked = [
        Prompt((Segment("user", heads[i % groups] + text(rng, QUESTION)),)) for i in range(prompts)
    ]
    return shuffled(rng, asked)


def over_chunks(rng: random.Random, prompts: int, groups: int) -> Job:
    """Each has the chunks of its group, in an order of its own."""
    asked = []
    sets = [[(f"{g}.{i}", text(rng, CHUNK)) for i in range(CHUNKS)] for g in range(groups)]
    for i in range(prompts):
        picked = rng.sample(sets[i % groups], CHUNKS)
        pieces = [Segment("user", chunk, name) for name, chunk in picked]
        asked.append(Prompt((*pieces, Segment("user", text(rng, QUESTION)))))
    return shuffled(rng, asked)


def shuffled(rng: random.Random, asked: list[Prompt]) -> Job:
    rng.shuffle(asked)
    new = [NEW[rng.random() < 0.25] for _ in asked]
    return asked, [SamplingParams(max_tokens=n, ignore_eos=True) for n in new]


def opened(folder: Path, given: argparse.Namespace, kind: str, *, is_exact: bool = False) -> LLM:
    """An engine with a KV budget, and a store of chunks, of so many tokens."""
    kernels = {"dtype": "float32", "kernels": "reference"} if is_exact else {"dtype": "bfloat16"}
    reuse = ReuseSettings("legolink") if kind == "chunks" else None
    llm = LLM(folder, kv_budget_mb=1, reuse=reuse, **kernels)  # type: ignore[arg-type]
    pool = llm.engine.pool
    pool.budget_bytes = given.kv_tokens * pool.shape.bytes_per_token
    llm.engine.max_tokens = min(llm.engine.context, given.kv_tokens)
    if llm.engine.reuse is not None:
        llm.engine.reuse.store.budget_bytes = pool.budget_bytes // 2
    return llm


def check(llm: LLM, job: Job) -> None:
    """The same tokens one by one, together and as a batch job."""
    asked, sampling = job
    batch = dict(llm.generate_batch(asked, sampling))
    alone = [llm.generate(p, s)[0].token_ids for p, s in zip(asked, sampling, strict=True)]
    assert [batch[i].token_ids for i in range(len(asked))] == alone, "other tokens"


def compared(kind: str, llm: LLM, job: Job, rounds: int) -> list[dict[str, object]]:
    """Both ways, in turn."""
    ways: dict[str, Callable[[], object]] = {
        "generate": lambda: llm.generate(*job),
        "generate_batch": lambda: list(llm.generate_batch(*job)),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            one = measured(llm, way, len(job[0]))
            found[name] += [one] if number else []  # the first warms up
    rows = []
    for name, some in found.items():
        medians = {key: round(statistics.median(o[key] for o in some), 2) for key in some[0]}
        rows.append({"kind": kind, "name": name, **medians})
        print(rows[-1], flush=True)
    return rows


def measured(llm: LLM, way: Callable[[], object], prompts: int) -> dict[str, float]:
    """One run from an empty cache."""
    emptied(llm)
    engine, pool, held = llm.engine, llm.engine.pool, [0]
    step, before = engine.step, (engine.num_rows, engine.num_steps, engine.queues.preemptions)

    def watched() -> object:
        updates = step()
        held.append((pool.used_bytes - pool.cached_bytes) // pool.shape.bytes_per_token)
        return updates

    engine.step = watched  # type: ignore[method-assign,assignment]
    began = time.perf_counter()
    way()
    took = time.perf_counter() - began
    del engine.step
    after = (engine.num_rows, engine.num_steps, engine.queues.preemptions)
    rows, steps, preemptions = (b - a for a, b in zip(before, after, strict=True))
    return {
        "requests_per_s": prompts / took,
        "rows": rows,
        "steps": steps,
        "rows_per_step": rows / steps,
        "peak_kv_tokens": max(held),
        "preemptions": preemptions,
    }


def emptied(llm: LLM) -> None:
    """Nothing is cached any more."""
    pool = llm.engine.pool
    while pool.cached_bytes:
        segment = pool.tree.evict()
        pool.cached_bytes -= segment.nbytes
        pool._free(segment)
    if llm.engine.reuse is not None:
        store = llm.engine.reuse.store
        for name in list(store._entries):
            store.drop(name)


if __name__ == "__main__":
    main()
