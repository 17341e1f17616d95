"""Random attention plans for the tests of the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable, Write

LAYERS = 2
POSITIONS = 2048


@dataclass(frozen=True)
class Shape:
    """Sizes of a random plan; `seed` decides the numbers and which row sees which segment."""

    heads: int
    kv_heads: int
    size: int
    sequences: int
    shared: int
    window: int
    seed: int


def shapes(sizes: tuple[int, ...] = (16, 32, 64, 80, 96, 128)) -> st.SearchStrategy[Shape]:
    """Grouped heads of 1 to 16, up to five sequences with up to four shared segments."""
    groups = st.sampled_from([(1, 1), (4, 2), (7, 1), (8, 8), (14, 2), (16, 1)])
    return st.builds(
        lambda heads, *rest: Shape(*heads, *rest),
        groups,
        st.sampled_from(sizes),
        st.integers(1, 5),
        st.integers(0, 4),
        st.sampled_from([0, 0, 1, 37, 300]),
        st.integers(0, 2**31),
    )


def table(size: int, positions: int = POSITIONS) -> RotaryTable:
    """Rotary angles as in Llama."""
    frequency = 10_000.0 ** -(torch.arange(size // 2) / (size // 2))
    angle = torch.arange(positions)[:, None] * frequency
    return RotaryTable(angle.cos(), angle.sin())


def segment(
    shape: Shape, capacity: int, filled: int, dtype: torch.dtype, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Keys and values of a segment, NaN from `filled` on."""
    full = LAYERS, shape.kv_heads, capacity, shape.size
    k, v = (torch.randn(full, generator=draw).to(dtype) for _ in range(2))
    k[:, :, filled:] = torch.nan
    v[:, :, filled:] = torch.nan
    return k, v


def make_plan(shape: Shape, dtype: torch.dtype) -> tuple[AttentionPlan, Tensor]:
    """Every sequence sees some shared segments, each at a base of its own and perhaps without
    some keys, then its own one, where its rows stand one after the other. Returns the plan and
    `q`, whose rows are strided."""
    draw = torch.Generator().manual_seed(shape.seed)

    def below(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=draw))

    counts = [below(1, 40) for _ in range(shape.sequences)]
    first = [sum(counts[:i]) for i in range(len(counts))]
    parts, writes = [], []
    for _ in range(shape.shared):
        holders = [i for i in range(len(counts)) if below(0, 3)] or [0]
        length, start = below(1, 400), below(0, 100)
        k, v = segment(shape, length + below(0, 40), length, dtype, draw)
        pieces, sets = [], below(0, 3)
        for i in holders:
            rel = start + length + below(0, 500) + torch.arange(counts[i])
            limit = torch.full((counts[i],), below(1, length + 1))
            hidden = torch.full((counts[i],), below(-1, sets))
            pieces.append((first[i] + torch.arange(counts[i]), rel, limit, hidden))
        pieces[0][2].fill_(length)
        *columns, hidden = (torch.cat(x) for x in zip(*pieces, strict=True))
        hides = torch.rand(sets, k.shape[2], generator=draw) < 0.3
        parts.append(Part(k, v, start, *columns, *((hides, hidden) if sets else ())))
    for i, count in enumerate(counts):
        before, start = below(0, 300), below(0, 50)
        k, v = segment(shape, before + count + below(0, 40), before + count, dtype, draw)
        rows, limit = first[i] + torch.arange(count), before + 1 + torch.arange(count)
        parts.append(Part(k, v, start, rows, start + limit - 1, limit))
        writes.append(Write(k, v, first[i], count, before, start + before))
    wide = torch.randn(sum(counts), shape.heads * shape.size + 32, generator=draw).to(dtype)
    q = wide[:, : shape.heads * shape.size].unflatten(1, (shape.heads, shape.size))
    return AttentionPlan(sum(counts), parts, writes), q
