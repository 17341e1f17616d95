"""What does attention over segments cost against one contiguous run, and what does sharing save?

Why: a prompt of chunks is a list of segments. If reading many segments cost more than reading one
run, keeping them apart would not pay, and stacking rows of many requests on one segment is where
it should win. Shapes of one layer of Llama-3.2-1B in bfloat16 (32 heads, 8 KV heads, head size
64), 16 layers with memory of their own so that caches do not flatter. The baselines run beside:
one contiguous run, 16 runs of their own, torch's flash attention, torch's matrix product.

What it does not tell: the rest of a step (projections, norms, sampling), or other models' shapes.

    python benchmarks/segments.py
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from _machine import machine
from chunkwise.llm.kernels.cpu import CpuKernels
from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable
from chunkwise.llm.kernels.reference import ReferenceKernels

LAYERS, HEADS, KV_HEADS, SIZE, KEYS = 16, 32, 8, 64, 4096
SCALE = SIZE**-0.5
TOLERANCE = 2e-2
Figures = dict[str, object]


def main() -> None:
    """Check, measure, print; the last line is JSON."""
    torch.manual_seed(0)
    kernels, rotary = CpuKernels(torch.bfloat16), _table(3 * KEYS)
    print(machine(), kernels.reasons()["attention"], f"{torch.get_num_threads()} threads")
    figures: Figures = {"machine": machine(), "attention": kernels.reasons()["attention"]}
    with torch.no_grad():
        for rows in (1, 256):
            figures[f"one_sequence_{rows}_rows"] = _split(kernels, rotary, rows)
        for rows in (1, 16):
            figures[f"16_sequences_{rows}_rows"] = _shared(kernels, rotary, rows)
        figures["gemm_gflops"] = round(gemm := _gemm(), 1)
        for length in (512, 2048, 8192):
            figures[f"prefill_{length}"] = _prefill(kernels, rotary, length, gemm)
    print(json.dumps(figures))


def _split(kernels: CpuKernels, rotary: RotaryTable, rows: int) -> Figures:
    """One sequence: its last rows over one run of `KEYS` against 8 and 16 segments."""
    calls, figures = {}, Figures()
    for count in (1, 8, 16):
        length = KEYS // count
        parts = []
        for i in range(count):
            rel = KEYS - i * length + torch.arange(rows)
            parts.append(Part(*_segment(length), 0, torch.arange(rows), rel, _all(rows, length)))
        calls[count] = _caller(kernels, AttentionPlan(rows, parts, []), rotary)
    times = _medians(calls)
    for count in (8, 16):
        figures[f"{count}_segments_ms"] = _ms(times[count])
        figures[f"{count}_segments_ratio"] = round(times[count] / times[1], 3)
    figures["contiguous_ms"] = _ms(times[1])
    copying = _joining(8)
    figures["joining_8_ms_per_layer"] = _ms(copying)
    saved = times[8] - times[1]
    figures["calls_until_joining_pays"] = round(copying / saved) if saved > 0 else None
    print(f"one sequence, {rows} rows over {KEYS} keys:", figures)
    return figures


def _shared(kernels: CpuKernels, rotary: RotaryTable, rows: int) -> Figures:
    """16 sequences over the same 8 segments of 512 at different bases, or each over its own run."""
    sequences, count, total = 16, 8, 16 * rows
    shared = []
    for i in range(count):
        bases = (torch.arange(sequences) * 37 + i * 512).repeat_interleave(rows)
        rel = KEYS + 600 - bases + torch.arange(rows).repeat(sequences)
        shared.append(Part(*_segment(512), 0, torch.arange(total), rel, _all(total, 512)))
    own = []
    for i in range(sequences):
        here = i * rows + torch.arange(rows)
        rel = KEYS + torch.arange(rows)
        own.append(Part(*_segment(KEYS, layers=4), 0, here, rel, _all(rows, KEYS)))
    one = _caller(kernels, AttentionPlan(total, shared, []), rotary)
    many = _caller(kernels, AttentionPlan(total, own, []), rotary, layers=4)
    times = _medians({"shared": one, "own": many})
    ratio = round(times["own"] / times["shared"], 2)
    figures: Figures = {"shared_ms": _ms(times["shared"]), "own_ms": _ms(times["own"])}
    figures["times_faster"] = ratio
    print(f"16 sequences of {rows} rows:", figures)
    return figures


def _prefill(kernels: CpuKernels, rotary: RotaryTable, length: int, gemm: float) -> Figures:
    """Causal attention of a whole prompt, against torch's flash attention."""
    k, v = _segment(length, layers=4)
    at = torch.arange(length)
    q = torch.randn(length, HEADS, SIZE).bfloat16()
    plan = AttentionPlan(length, [Part(k, v, 0, at, at, at + 1)], [])
    ours = _caller(kernels, plan, rotary, layers=4, check=length <= 512)
    turn, stacked = _turns(4), q.transpose(0, 1)[None]

    def flash() -> None:
        i = turn()
        torch.nn.functional.scaled_dot_product_attention(
            stacked, k[i][None], v[i][None], is_causal=True, scale=SCALE, enable_gqa=True
        )

    times = _medians({"ours": ours, "torch": flash}, repeats=15 if length < KEYS else 5)
    work = 2 * length * length * HEADS * SIZE / 1e9
    figures: Figures = {"ms": _ms(times["ours"]), "torch_ms": _ms(times["torch"])}
    figures["gflops"] = round(work / times["ours"], 1)
    figures["torch_gflops"] = round(work / times["torch"], 1)
    figures["times_faster"] = round(times["torch"] / times["ours"], 2)
    figures["share_of_gemm"] = round(work / times["ours"] / gemm, 2)
    print(f"prefill of {length}:", figures)
    return figures


def _caller(
    kernels: CpuKernels,
    plan: AttentionPlan,
    rotary: RotaryTable,
    *,
    layers: int = LAYERS,
    check: bool = True,
) -> Callable[[], None]:
    """A call of `attend` on the next layer; its result is checked against the reference first."""
    q = torch.randn(plan.num_rows, HEADS, SIZE).bfloat16()
    kernels.prepare(plan)
    if check:
        got = kernels.attend(q, plan, 1, rotary, scale=SCALE).float()
        want = ReferenceKernels().attend(q, plan, 1, rotary, scale=SCALE).float()
        error = float((got - want).abs().max())
        assert error <= TOLERANCE, f"differs from the reference by {error}"
    turn = _turns(layers)
    return lambda: _drop(kernels.attend(q, plan, turn(), rotary, scale=SCALE))


def _turns(layers: int) -> Callable[[], int]:
    state = [0]

    def turn() -> int:
        state[0] = (state[0] + 1) % layers
        return state[0]

    return turn


def _joining(count: int) -> float:
    """Seconds per layer to copy `count` segments into one run."""
    pieces = [_segment(KEYS // count) for _ in range(count)]
    into = _segment(KEYS)

    def join() -> None:
        for i, one in enumerate(into):
            torch.cat([piece[i] for piece in pieces], dim=2, out=one)

    return _medians({"join": join}, repeats=5)["join"] / LAYERS


def _gemm() -> float:
    """GF/s of torch's bfloat16 matrix product, 2048 x 2048 x 8192."""
    x, w = torch.randn(2048, 2048).bfloat16(), torch.randn(8192, 2048).bfloat16()
    seconds = _medians({"gemm": lambda: _drop(torch.nn.functional.linear(x, w))})["gemm"]
    return 2 * 2048 * 2048 * 8192 / seconds / 1e9


def _drop(_: Tensor) -> None:
    """Forget a result."""


def _medians(calls: dict[Any, Callable[[], None]], repeats: int = 15) -> dict[Any, float]:
    """Median seconds of each call; they take turns, so that all see the same machine."""
    taken: dict[Any, list[float]] = {name: [] for name in calls}
    for round_ in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_ >= 2:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def _segment(length: int, *, layers: int = LAYERS) -> tuple[Tensor, Tensor]:
    k, v = (torch.randn(layers, KV_HEADS, length, SIZE).bfloat16() for _ in range(2))
    return k, v


def _all(rows: int, keys: int) -> Tensor:
    return torch.full((rows,), keys)


def _table(positions: int) -> RotaryTable:
    frequency = 500_000.0 ** -(torch.arange(SIZE // 2) / (SIZE // 2))
    angle = torch.arange(positions)[:, None] * frequency
    return RotaryTable(angle.cos(), angle.sin())


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


if __name__ == "__main__":
    main()
