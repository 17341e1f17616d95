"""Question: how fast does our engine read prompts and write tokens, and what is left to win?

Why: reading (prefill) is what a user of passages waits for; writing (decode) is what he watches.
Cells: prefill of one new prompt (tokens over the time to its first token) and decode of n
sequences (tokens over time, from the moment when all have their first token until one has its
last). Every prompt is new random tokens, so no cache holds any of it. Each engine is a process
of its own (`_peers/`); of one cell all engines are measured in turn, so that load from elsewhere
hits all alike.

Baseline in the same run: transformers' `generate` in bfloat16, the best of its ways (sdpa or
eager attention, dynamic or static cache; ways that lose the warm-up by far are dropped).
Peers: openvino.genai with its KV in u8 (its default) and in bfloat16, and vLLM's CPU build, in
environments that `peers.md` describes. Compressed weights are timed in decode, where they matter.

Correctness first: greedy tokens and logits of ours against transformers on the same checkpoint.
Random weights in bfloat16 have near ties, so tokens may part: the logits decide.
Floor: the checkpoint's multiplications at the rate measured here for its shapes (torch, bfloat16),
its bytes at the read bandwidth measured here; the larger of the two. "Share" is floor over time.

It does not tell: several requests that come and go (`mixed_load.py`), memory (`memory.py`), how
good compressed weights are, or anything of a GPU. Ratios hold on any machine, seconds on this one.

    python benchmarks/engine.py CHECKPOINT [--peers transformers,openvino,vllm]
        [--peer-python openvino=PATH,vllm=PATH] [--quantize none,int8,int4]

OpenVINO's exports are looked for beside the checkpoint: CHECKPOINT.ov, .ov-int8, .ov-int4.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from _floor import Shape, bandwidth, gemm_rate
from _machine import machine
from _peers.engines import Way, start, ways_of
from _peers.worker import Worker

PRUNE = 1.25  # a way this much slower than the engine's best in the warm-up is dropped


def main() -> None:
    args = _arguments()
    shape = Shape.of(args.checkpoint)
    rates = _rates(shape, args.threads)
    print(machine(), rates, sep="\n")
    cells: list[dict[str, Any]] = []
    agreement: dict[str, Any] = {}
    engines: dict[str, Any] = {}
    for quantize in args.quantize:
        with _workers(args, quantize) as (workers, about):
            engines |= about
            agreement |= _agreement(workers, shape, quantize)
            prefill = args.prefill if quantize == "none" else []
            for kind, sizes in (("prefill", prefill), ("decode", args.decode)):
                for size in sizes:
                    cell = Cell(kind, size, quantize, args, shape, rates)
                    cells.append(cell.measure(workers))
                    _show(cells[-1])
    print(
        json.dumps(
            {
                "benchmark": "engine",
                **machine(),
                "load": os.getloadavg()[0],
                "checkpoint": args.checkpoint.name,
                "threads": args.threads,
                "rates": rates,  # the floors are of these
                "rates_after": _rates(
                    shape, args.threads
                ),  # differ where the machine was not quiet
                "engines": engines,
                "agreement": agreement,
                "cells": cells,
            }
        )
    )


class Cell:
    """One row of the table: a kind of work at one size, measured for all engines in turn."""

    def __init__(
        self,
        kind: str,
        size: int,
        quantize: str,
        args: argparse.Namespace,
        shape: Shape,
        rates: dict[str, float],
    ) -> None:
        self.kind, self.size, self.quantize, self.args = kind, size, quantize, args
        self.shape, self.rates = shape, rates
        self.rng = random.Random(f"{kind}{size}{quantize}")

    def measure(self, workers: list[Worker]) -> dict[str, Any]:
        """Tokens per second of each engine's best way, their spread, the floor and its share."""
        ways = [way for worker in workers for way in ways_of(worker, self._length())]
        ways = self._best(ways, self._round(ways))
        rounds = [self._round(ways) for _ in range(self.args.rounds)]
        rates: dict[str, dict[str, Any]] = {}
        for way in ways:
            seen = [each[way] for each in rounds]
            found: dict[str, Any] = {
                "tokens_s": round(statistics.median(seen), 2),
                "range": [round(min(seen), 2), round(max(seen), 2)],
                "way": way.name,
            }
            if found["tokens_s"] > rates.get(way.engine, {"tokens_s": 0})["tokens_s"]:
                rates[way.engine] = found
        floor = self._floor()
        for found in rates.values():
            found["share"] = round(found["tokens_s"] / floor, 3)
        return {
            "kind": self.kind,
            "size": self.size,
            "weights": self.quantize,
            "context": self._length(),
            "floor_tokens_s": round(floor, 1),
            "engines": rates,
            "ours_over": _ratios(rates),
        }

    def _round(self, ways: list[Way]) -> dict[Way, float]:
        """Every way once, on the same new prompts, in an order that changes."""
        number = 1 if self.kind == "prefill" else self.size
        prompts = _prompts(self.rng, number, self._length(), self.shape)
        order = self.rng.sample(ways, len(ways))
        return {way: self._rate(way, prompts) for way in order}

    def _length(self) -> int:
        return self.size if self.kind == "prefill" else int(self.args.context)

    def _rate(self, way: Way, prompts: list[list[int]]) -> float:
        if self.kind == "prefill":
            (times,) = way.run(prompts, 1)["times"]
            return len(prompts[0]) / float(times[0])
        return decode_rate(way.run(prompts, self.args.new + way.steps_to_read(prompts))["times"])

    def _best(self, ways: list[Way], warm: dict[Way, float]) -> list[Way]:
        """Without the ways that are far behind another way of the same engine."""
        best = {way.engine: max(warm[w] for w in ways if w.engine == way.engine) for way in ways}
        return [way for way in ways if warm[way] * PRUNE >= best[way.engine]]

    def _floor(self) -> float:
        gflops, gb_s = self.rates["gemm_gflops"] * 1e9, self.rates["read_gb_s"] * 1e9
        if self.kind == "prefill":
            return self.size / (self.shape.prefill_flops(self.size) / gflops)
        context = self.args.context + self.args.new // 2
        flops = self.size * self.shape.token_flops(context)
        read = self.shape.weight_bytes(self.quantize) + self.size * self.shape.kv_bytes(context)
        return self.size / max(flops / gflops, read / gb_s)


def decode_rate(times: list[list[float]]) -> float:
    """Tokens per second while all sequences write: none reads its prompt, none has ended."""
    begin, end = max(each[0] for each in times), min(each[-1] for each in times)
    written = sum(begin < at <= end for each in times for at in each)
    return written / (end - begin)


def equal_share(ones: list[list[int]], others: list[list[int]]) -> float:
    """Share of places at which two lists of completions have the same token."""
    both = zip(ones, others, strict=True)
    return round(statistics.mean(a == b for x, y in both for a, b in zip(x, y, strict=True)), 3)


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    return [int(number) for number in names(text)]


def pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in names(text))


def _rates(shape: Shape, threads: int) -> dict[str, float]:
    return {"gemm_gflops": gemm_rate(shape, threads), "read_gb_s": bandwidth(threads)}


@contextmanager
def _workers(
    args: argparse.Namespace, quantize: str
) -> Iterator[tuple[list[Worker], dict[str, Any]]]:
    """Engines that can serve these weights, loaded, and what they say of themselves."""
    longest = max([*args.prefill, args.context + args.new + 256], default=1024)
    held = max([*args.prefill, max(args.decode, default=1) * (args.context + args.new + 256)])
    settings = {
        "threads": args.threads,
        "quantize": quantize,
        "context": longest + 64,
        "kv_mb": int(1.25 * Shape.of(args.checkpoint).kv_bytes(held)) // 2**20 + 64,
        "sequences": max(args.decode, default=1),
        "batched_tokens": args.token_budget,
    }
    workers, about = [], {}
    try:
        for name in ["ours", *args.peers]:
            for worker in start(name, args.checkpoint, args.peer_python, settings):
                workers.append(worker)
                about[f"{worker.name} {quantize}"] = worker.ready()
                print(f"{worker.name} {quantize}: {about[f'{worker.name} {quantize}']}")
        yield workers, about
    finally:
        for worker in workers:
            worker.quit()


def _agreement(workers: list[Worker], shape: Shape, quantize: str) -> dict[str, Any]:
    """Greedy tokens of all against transformers (or ours without it), logits where given."""
    rng = random.Random(1)
    prompts = _prompts(rng, 4, 128, shape)
    tokens = {worker.name: worker.run(prompts, 32)["tokens"] for worker in workers}
    base = "transformers" if "transformers" in tokens else "ours"
    report: dict[str, Any] = {
        f"{name} {quantize}": {
            "equal_first_tokens": equal_share(*([e[:1] for e in t] for t in (tokens[base], mine))),
            "equal_tokens": equal_share(tokens[base], mine),
        }
        for name, mine in tokens.items()
        if name != base
    }
    with_logits = {w.name: w for w in workers if w.name in ("ours", "transformers")}
    if len(with_logits) == 2:
        both = [[np.array(w.logits(prompt)) for w in with_logits.values()] for prompt in prompts]
        report[f"ours {quantize}"] |= {
            "logits_max_difference": round(max(float(abs(a - b).max()) for a, b in both), 4),
            "logits_spread": round(float(np.mean([b.std() for _, b in both])), 4),
            "kl": float(f"{max(_kl(b, a) for a, b in both):.3g}"),
        }
    print("agreement:", report)
    return report


def _kl(reference: np.ndarray, other: np.ndarray) -> float:
    p, q = (x - x.max() - np.log(np.exp(x - x.max()).sum()) for x in (reference, other))
    return float((np.exp(p) * (p - q)).sum())


def _prompts(rng: random.Random, number: int, length: int, shape: Shape) -> list[list[int]]:
    return [[rng.randrange(3, shape.vocab) for _ in range(length)] for _ in range(number)]


def _ratios(rates: dict[str, dict[str, Any]]) -> dict[str, float]:
    mine = rates["ours"]["tokens_s"]
    return {
        name: round(mine / found["tokens_s"], 2) for name, found in rates.items() if name != "ours"
    }


def _show(cell: dict[str, Any]) -> None:
    floor = cell["floor_tokens_s"]
    print(f"{cell['kind']} {cell['size']} {cell['weights']}: floor {floor} tokens/s")
    for name, found in cell["engines"].items():
        low, high = found["range"]
        times = cell["ours_over"].get(name)
        print(
            f"  {name:18} {found['tokens_s']:9.1f} tokens/s ({low:.1f}-{high:.1f})"
            f"  {found['share']:.0%} of the floor  {found['way']:16}"
            + (f"  ours {times:.2f} x" if times else "")
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--peers", type=names, default=["transformers"])
    parser.add_argument("--peer-python", type=pairs, default={})
    parser.add_argument("--prefill", type=numbers, default=[512, 2048, 8192])
    parser.add_argument("--decode", type=numbers, default=[1, 8, 32])
    parser.add_argument("--context", type=int, default=512, help="prompt tokens in decode")
    parser.add_argument("--new", type=int, default=64, help="tokens written in decode")
    parser.add_argument("--quantize", type=names, default=["none"])
    parser.add_argument("--token-budget", type=int, default=512, help="ours, rows of a step")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
