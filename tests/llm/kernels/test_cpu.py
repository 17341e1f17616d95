"""The CPU kernels, in C++ and by torch, against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chunkwise.llm.kernels import native
from chunkwise.llm.kernels.cpu import CpuKernels
from chunkwise.llm.kernels.cpu_attention import TorchAttention
from chunkwise.llm.kernels.cpu_native import NativeAttention, NativeElementwise
from chunkwise.llm.kernels.ops import AttentionPlan, Part
from chunkwise.llm.kernels.reference import ReferenceKernels
from tests.llm.kernels.plans import POSITIONS, Shape, make_plan, shapes, table

REFERENCE = ReferenceKernels()
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
TYPES = list(TOLERANCE)
Attention = TorchAttention | NativeAttention


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Only around what is tested: with more threads than cores the reference would crawl."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def made(kind: str) -> Attention:
    """Attention by torch, or by C++ with tiles or without."""
    if kind == "torch":
        return TorchAttention()
    try:
        return NativeAttention(native.library(), tiles=kind == "tiles")
    except native.Unavailable as exc:
        pytest.skip(str(exc))


def assert_near(got: Tensor, want: Tensor) -> None:
    """Within the tolerance of the type, relative to the largest number; NaN never."""
    assert got.dtype == want.dtype
    error = (got.float() - want.float()).abs().max()
    assert float(error) <= TOLERANCE[want.dtype] * max(1.0, float(want.float().abs().max()))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", ["torch", "vectors", "tiles"])
@settings(deadline=None, max_examples=6)
@given(shape=shapes())
def test_any_plan_gives_what_the_reference_gives(
    kind: str, dtype: torch.dtype, threads: int, shape: Shape
) -> None:
    attention, rotary = made(kind), table(shape.size)
    plan, q = make_plan(shape, dtype)
    options = {"scale": shape.size**-0.5, "window": shape.window}
    attention.prepare(plan)
    for layer in (1, 0):
        want = REFERENCE.attend(q, plan, layer, rotary, **options)  # type: ignore[arg-type]
        with using(threads):
            got = attention.attend(q, plan, layer, rotary, **options)  # type: ignore[arg-type]
        assert_near(got, want)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", ["torch", "vectors", "tiles"])
@pytest.mark.parametrize("rows", [1, 9])
def test_a_long_run_of_one_kv_head_is_cut_along_its_keys(
    kind: str, dtype: torch.dtype, rows: int
) -> None:
    torch.manual_seed(0)
    attention, rotary = made(kind), table(64, 8192)
    k, v = torch.randn(2, 1, 1, 5000, 64).to(dtype)
    limit = 4900 + torch.arange(rows)
    plan = AttentionPlan(rows, [Part(k, v, 0, torch.arange(rows), limit - 1, limit)], [])
    q = torch.randn(rows, 4, 64).to(dtype)
    attention.prepare(plan)
    got = attention.attend(q, plan, 0, rotary, scale=0.125)
    assert_near(got, REFERENCE.attend(q, plan, 0, rotary, scale=0.125))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", ["torch", "vectors", "tiles"])
def test_one_row_that_sees_one_key_gets_its_value(kind: str, dtype: torch.dtype) -> None:
    k, v = torch.full((2, 1, 1, 3, 32), torch.nan, dtype=dtype)
    k[:, :, :1], v[:, :, :1] = 1.0, torch.arange(32.0)
    one = torch.ones(1, dtype=torch.int64)
    plan = AttentionPlan(1, [Part(k, v, 0, one - 1, one, one)], [])
    attention = made(kind)
    attention.prepare(plan)
    got = attention.attend(torch.ones(1, 2, 32, dtype=dtype), plan, 0, table(32), scale=1.0)
    assert_near(got, v[0, 0, :1].expand(1, 2, 32))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@settings(deadline=None, max_examples=6)
@given(shape=shapes((16, 64, 80)))
def test_keys_are_written_where_the_plan_says(dtype: torch.dtype, shape: Shape) -> None:
    attention, rotary = made("tiles"), table(shape.size)
    assert isinstance(attention, NativeAttention)
    plan, _ = make_plan(shape, dtype)
    other, _ = make_plan(shape, dtype)
    wide = torch.randn(plan.num_rows, 2 * shape.kv_heads + 1, shape.size).to(dtype)
    k, v = wide[:, : shape.kv_heads], wide[:, shape.kv_heads : -1]
    attention.prepare(plan)
    attention.store(k, v, plan, 1, rotary)
    REFERENCE.store(k, v, other, 1, rotary)
    for ours, theirs in zip(plan.writes, other.writes, strict=True):
        near = {"atol": 1e-6, "rtol": 1e-2 if dtype == torch.bfloat16 else 1e-5}
        torch.testing.assert_close(ours.k, theirs.k, equal_nan=True, **near)  # type: ignore[arg-type]
        torch.testing.assert_close(ours.v, theirs.v, equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@settings(deadline=None, max_examples=6)
@given(rows=st.integers(1, 70), width=st.integers(1, 700), heads=st.integers(1, 3))
def test_norms_and_swiglu(dtype: torch.dtype, rows: int, width: int, heads: int) -> None:
    try:
        ours = NativeElementwise(native.library())
    except native.Unavailable as exc:
        pytest.skip(str(exc))
    torch.manual_seed(rows)
    weight, flat = torch.randn(width).to(dtype), torch.randn(rows, width).to(dtype)
    x = torch.randn(rows, heads + 1, width).to(dtype)[:, 1:]
    assert_near(ours.rms_norm(x, weight, 1e-5), REFERENCE.rms_norm(x, weight, 1e-5))
    assert_near(ours.rms_norm(flat, weight, 1e-5), REFERENCE.rms_norm(flat, weight, 1e-5))
    residual = torch.randn(rows, width).to(dtype)
    want = REFERENCE.add_rms_norm(flat, residual, weight, 1e-5)
    got = ours.add_rms_norm(flat, residual.clone(), weight, 1e-5)
    assert_near(got[0], want[0])
    assert torch.equal(got[1], want[1])
    both = 5 * torch.randn(rows, 2 * width).to(dtype)
    assert_near(ours.silu_mul(both), REFERENCE.silu_mul(both))


def test_without_a_compiler_torch_is_used_and_the_reason_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHUNKWISE_NATIVE", "0")
    kernels = CpuKernels(torch.bfloat16)
    assert "CHUNKWISE_NATIVE=0" in kernels.reasons()["attention"]
    shape = Shape(4, 2, 64, 2, 1, 0, 5)
    plan, q = make_plan(shape, torch.bfloat16)
    rotary = table(64, POSITIONS)
    kernels.prepare(plan)
    got = kernels.attend(q, plan, 0, rotary, scale=0.125)
    assert_near(got, REFERENCE.attend(q, plan, 0, rotary, scale=0.125))


@pytest.mark.parametrize("size", [24, 64])
def test_head_sizes_that_are_not_multiples_of_16_go_to_torch(size: int) -> None:
    kernels, rotary = CpuKernels(torch.float32), table(size)
    plan, q = make_plan(Shape(4, 2, size, 2, 1, 0, 5), torch.float32)
    kernels.prepare(plan)
    got = kernels.attend(q, plan, 0, rotary, scale=0.125)
    assert_near(got, REFERENCE.attend(q, plan, 0, rotary, scale=0.125))
