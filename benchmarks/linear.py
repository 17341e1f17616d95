"""Question: how near are our linear layers to what the memory and the matrix units allow?

Why: a step of a language model is little else. With few rows the time is the weights' bytes over
the memory bandwidth; with many it is the arithmetic over the rate of the matrix units.
Shapes are those of Llama-3.2-1B. Each round goes through several matrices, more than the caches
hold, and through all implementations in turn, so that load from elsewhere hits all alike.
Peers: `F.linear` in bfloat16, torch's int8 product (up to 16 rows).
Ceilings: bandwidth is the best of summing 1 GiB of int64; the matrix rate is the best of torch's
own square product of 4,096. Another tenant of the machine can slow both for minutes.
It does not tell: quality of quantised models, other processors, or the rest of a step.

    python benchmarks/linear.py [--rows 1 8 64 512] [--rounds 5] [--head]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from _machine import machine
from chunkwise.llm.kernels.cpu_linear import CpuLinear
from chunkwise.llm.kernels.ops import Quantization, Weight

SHAPES = {"q, o": (2048, 2048), "gate_up": (16384, 2048), "down": (2048, 8192)}
HEAD = {"head": (128256, 2048)}
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048]
KINDS: list[Quantization] = ["none", "int8", "int4"]
CACHE_BYTES = 256 << 20
INT8_OP_ROWS = 16


def main() -> None:
    args = _arguments()
    kernels = CpuLinear(torch.bfloat16)
    print(machine(), f"{torch.get_num_threads()} threads", kernels.reasons())
    bandwidth, rate = _bandwidth(), _matrix_rate()
    print(f"ceilings: {bandwidth:.1f} GB/s, {rate:.0f} GF/s")
    cells = []
    for name, (n, k) in (SHAPES | (HEAD if args.head else {})).items():
        copies = max(2, -(-CACHE_BYTES // (2 * n * k)))
        dense = [torch.randn(n, k).bfloat16() for _ in range(copies)]
        packed = {q: [kernels.pack(w, quantization=q) for w in dense] for q in KINDS}
        for rows in args.rows:
            cells += _cell(kernels, name, dense, packed, rows, args.rounds)
    print(json.dumps(machine() | {"GB/s": bandwidth, "GF/s": rate, "cells": cells}))


def _cell(
    kernels: CpuLinear,
    name: str,
    dense: list[Tensor],
    packed: dict[Quantization, list[Weight]],
    rows: int,
    rounds: int,
) -> list[dict[str, object]]:
    n, k = dense[0].shape
    x = torch.randn(rows, k).bfloat16()
    runs: dict[str, tuple[Callable[[int], Tensor], float]] = {
        "F.linear": (lambda i: F.linear(x, dense[i]), 2 * n * k)
    }
    for q in KINDS:
        label = "ours " + ("bfloat16" if q == "none" else q)
        runs[label] = (lambda i, q=q: kernels.linear(x, packed[q][i]), packed[q][0].nbytes)
    if rows <= INT8_OP_ROWS:
        numbers = [w.view(torch.int8)[:, ::2].contiguous() for w in dense]  # any numbers will do
        scales = torch.ones(n).bfloat16()
        runs["torch int8"] = (lambda i: torch._weight_int8pack_mm(x, numbers[i], scales), n * k)
    _check(runs)
    seconds = _times({label: run for label, (run, _) in runs.items()}, len(dense), rows, rounds)
    results = []
    for label, taken in seconds.items():
        row = {
            "layer": name,
            "rows": rows,
            "run": label,
            "ms": round(taken * 1e3, 3),
            "GB/s": round(runs[label][1] / taken * 1e-9, 1),
            "GF/s": round(2 * rows * n * k / taken * 1e-9),
            "x F.linear": round(seconds["F.linear"] / taken, 2),
        }
        print(row, flush=True)
        results.append(row)
    return results


def _check(runs: dict[str, tuple[Callable[[int], Tensor], float]]) -> None:
    exact = runs["F.linear"][0](0).float()
    for label, limit in (("ours bfloat16", 0.01), ("ours int8", 0.02), ("ours int4", 0.2)):
        error = float((runs[label][0](0).float() - exact).norm() / exact.norm())
        assert error < limit, (label, error)


def _times(
    runs: dict[str, Callable[[int], Tensor]], copies: int, rows: int, rounds: int
) -> dict[str, float]:
    """Median seconds of one product; fewer matrices a round where a product is long."""
    count = copies if rows <= 64 else 2
    taken: dict[str, list[float]] = {label: [] for label in runs}
    for run in runs.values():
        run(0)
    for _ in range(rounds):
        for label, run in runs.items():
            start = time.perf_counter()
            for i in range(count):
                run(i)
            taken[label].append((time.perf_counter() - start) / count)
    return {label: statistics.median(times) for label, times in taken.items()}


def _bandwidth() -> float:
    data = torch.ones(1 << 27, dtype=torch.int64)
    return round(data.nbytes / _best(lambda: data.sum()) * 1e-9, 1)


def _matrix_rate() -> float:
    a, b = torch.randn(4096, 4096).bfloat16(), torch.randn(4096, 4096).bfloat16()
    return round(2 * 4096**3 / _best(lambda: a @ b) * 1e-9)


def _best(run: Callable[[], object], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--head", action="store_true", help="the 128256 x 2048 head too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
