"""The reference kernels against dense attention and against their own definition."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.llm.kernels.ops import AttentionPlan, Part, Quantization
from chunkwise.llm.kernels.reference import (
    ReferenceKernels,
    dequantize,
    merge_partials,
    quantize,
    rotate,
)
from tests.llm.kernels.plans import table

KERNELS = ReferenceKernels()


@settings(deadline=None, max_examples=20)
@given(
    length=st.integers(1, 60),
    cuts=st.lists(st.integers(1, 59), max_size=5),
    window=st.sampled_from([0, 1, 7]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_segments_cut_anywhere_equal_dense_attention(
    length: int, cuts: list[int], window: int, share: float
) -> None:
    """Rows at odd positions do not see a share of the keys at even ones."""
    torch.manual_seed(length)
    q, (k, v) = torch.randn(length, 4, 16), torch.randn(2, length, 2, 16)
    rotary, positions = table(16), torch.arange(length)
    edges = sorted({0, length, *(cut for cut in cuts if cut < length)})
    gone = (positions % 2 == 0) & (torch.rand(length) < share)
    parts = []
    for low, high in itertools.pairwise(edges):
        keys = rotate(k[low:high], torch.arange(high - low), rotary).transpose(0, 1)[None]
        rows = torch.arange(low, length)
        limit = (rows - low + 1).clamp(max=high - low)
        values, hidden = v[low:high].transpose(0, 1)[None], rows % 2 - 1
        parts.append(Part(keys, values, 0, rows, rows - low, limit, gone[None, low:high], hidden))
    plan = AttentionPlan(length, parts, [])
    got = KERNELS.attend(q, plan, 0, rotary, scale=0.25, window=window)
    distance = positions[:, None] - positions
    seen = (distance >= 0) & (distance < (window or length))
    seen &= ~((positions % 2 == 1)[:, None] & gone)
    turned, keys = rotate(q, positions, rotary), rotate(k, positions, rotary)
    want = F.scaled_dot_product_attention(
        *(x.transpose(0, 1)[None] for x in (turned, keys, v)),
        attn_mask=seen,
        scale=0.25,
        enable_gqa=True,
    )
    torch.testing.assert_close(got, want[0].transpose(0, 1), atol=1e-5, rtol=1e-5)


def test_a_side_that_saw_nothing_counts_nothing() -> None:
    some = torch.randn(3, 4), torch.randn(3)
    nothing = torch.zeros(3, 4), torch.full((3,), -torch.inf)
    torch.testing.assert_close(merge_partials(some, nothing), some)
    out, lse = merge_partials(nothing, nothing)
    assert not out.any()
    assert bool((lse == -torch.inf).all())


@pytest.mark.parametrize(("quantization", "levels"), [("int8", 127), ("int4", 7)])
def test_a_quantised_number_is_half_a_step_off_at_most(
    quantization: Quantization, levels: int
) -> None:
    weight = torch.randn(5, 70)
    whole, scales = quantize(weight, quantization)
    assert int(whole.abs().max()) == levels
    step = scales.repeat_interleave(32, 1)[:, :70] if quantization == "int4" else scales
    error = (dequantize(whole, scales) - weight).abs()
    assert bool((error <= step * 0.5001).all())
