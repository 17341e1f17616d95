"""Do sequences over the same chunks hold their keys and values once?

    python benchmarks/shared_memory.py [--shape qwen2.5-0.5b] [--sequences 1,32]

Question. One and 32 sequences over the same 8 chunks of 256 tokens, each in an order and with a
question of its own. Bytes of KV that are held (the pool's by sequences, and the store) and resident
memory, at most, until all have their first token; then they are stopped. A fresh process for each
number, chunks stored before. Goal: the chunks' KV is held once, so that a sequence more takes its
own rows only: what is computed afresh, labels, question, and tokens, of which the first 64 get room
at once. `own_rows` counts those by the engine's usage, `row_bytes` tells what each took;
`kv_of_a_row` is the least. Resident memory grows by the working memory of a step too, which is
larger when a step has more rows (512 at most) and more sequences to sample for.

Baseline in the same run: the same without reuse, where sequences share what their prompts begin
with alike. There is nothing to warm up: it is no time that is measured (`seconds` is told all the
same). Correctness first: with everything computed afresh, logits are full prefill's.

It does not tell: how memory behaves over hours; chunks mapped from disk (they are pages of the page
cache, and shared between processes too).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from _corpus import CHUNK, PER_PROMPT, PROMPT, Corpus, Pieces
from _floor import Shape
from _machine import checkpoint, machine
from _peers.engines import start
from _peers.worker import Worker
from engine import numbers

NEW = 512  # more than any sequence writes before the last one begins
ROOM = 64  # tokens of a completion that get room with the prompt
GOAL = 1.02  # times the least bytes of a sequence's own rows


def main() -> None:
    given = arguments()
    with checkpoint(given.shape, given.folder) as model:
        row = Shape.of(model).kv_bytes(1)
        check(given, model, row)
        policies = {"reuse": {"name": "combined", "ratio": given.ratio}, "no reuse": None}
        cells = [
            {"engine": name, **measured(given, model, row, policy, number)}
            for name, policy in policies.items()
            for number in given.sequences
        ]
    for cell in cells:
        print(cell)
    print(json.dumps(told(given, row, cells)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="qwen2.5-0.5b", help="see `models fake`")
    parser.add_argument("--folder", type=Path, help="a checkpoint instead of a random one")
    parser.add_argument("--sequences", type=numbers, default=[1, 32], help="least and most")
    parser.add_argument("--ratio", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def started(given: argparse.Namespace, model: Path, row: float, policy: Any) -> Worker:
    """A fresh process, whose pool holds all sequences without reuse."""
    settings = {
        "threads": given.threads,
        "quantize": "none",
        "kv_mb": int(max(given.sequences) * (PROMPT + NEW) * row / 2**20) + 64,
        "policy": policy,
        "anchor": Corpus(0).anchor,
        "memory_mb": int(2 * PER_PROMPT * CHUNK * row / 2**20) + 1,
    }
    (worker,) = start("reuse", model, {}, settings)
    worker.ready()
    return worker


def check(given: argparse.Namespace, model: Path, row: float) -> None:
    """Everything computed afresh gives the logits of full prefill."""
    pieces, found = Corpus(PER_PROMPT).prompt(), []
    for policy in ("all", None):
        worker = started(given, model, row, policy)
        found.append(torch.tensor(worker.logits(pieces)))
        worker.quit()
    near = torch.cosine_similarity(found[0], found[1], dim=0)
    assert near > 0.999, f"logits differ from full prefill's: cosine {float(near):.5f}"


def measured(
    given: argparse.Namespace, model: Path, row: float, policy: Any, number: int
) -> dict[str, Any]:
    """What so many sequences take."""
    corpus = Corpus(PER_PROMPT)
    prompts: list[Pieces] = [corpus.prompt() for _ in range(number)]
    worker = started(given, model, row, policy)
    try:
        worker.run([corpus.chunks], 1, until="stored")
        before = worker.memory()["VmRSS"]
        found = worker.run(prompts, NEW, until="begun")
    finally:
        worker.quit()
    usage = found["usage"]
    assert all(found["tokens"]), "a sequence has not begun"
    assert found["computed"] == 0, "chunks were not stored"
    assert all(bool(each.get("reused_tokens")) == bool(policy) for each in usage)
    held = found["pool_bytes"] + found["store_bytes"]
    return {
        "sequences": number,
        "pool_mb": round(found["pool_bytes"] / 2**20, 1),
        "store_mb": round(found["store_bytes"] / 2**20, 1),
        "kv_bytes": held,
        "own_rows": sum(map(own, usage)),
        "resident_mb": found["rss_mb"],
        "resident_growth_mb": round(found["rss_mb"] - before, 1),
        "seconds": round(max(some[0] for some in found["times"]), 2),
    }


def own(usage: dict[str, int]) -> int:
    """Rows of a sequence that are neither a chunk's nor of a cached prefix."""
    shared = usage["cached_tokens"] + usage.get("reused_tokens", 0)
    return usage["prompt_tokens"] - shared + max(usage["completion_tokens"], ROOM)


def told(given: argparse.Namespace, row: float, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The report: growth from the fewest to the most sequences."""
    growth: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(cell["engine"] for cell in cells):
        few, many = (cell for cell in cells if cell["engine"] == name)
        more = many["sequences"] - few["sequences"]
        rows, kv = (many[key] - few[key] for key in ("own_rows", "kv_bytes"))
        growth[name] = {
            "kv_mb_a_sequence": round(kv / more / 2**20, 2),
            "resident_mb_a_sequence": round((many["resident_mb"] - few["resident_mb"]) / more, 2),
            "own_rows_a_sequence": round(rows / more, 1),
            "row_bytes": round(kv / rows),
        }
        print(name, growth[name])
    stores = {cell["store_mb"] for cell in cells if cell["engine"] == "reuse"}
    return {
        "benchmark": "shared_memory",
        **machine(),
        "threads": given.threads,
        "shape": str(given.folder or given.shape),
        "ratio": given.ratio,
        "chunks_kv_mb": round(PER_PROMPT * CHUNK * row / 2**20, 1),
        "kv_of_a_row": row,
        "cells": cells,
        "growth": growth,
        "is_met": len(stores) == 1 and growth["reuse"]["row_bytes"] <= GOAL * row,
    }


if __name__ == "__main__":
    main()
