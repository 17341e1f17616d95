"""The CUDA kernels equal the reference: on a GPU, and in Triton's interpreter on CPU tensors.

Marked `gpu`. `test_triton.py` runs this very file in the interpreter where there is no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from chunkwise.llm.kernels.cuda import FEW_ROWS, CudaKernels
from chunkwise.llm.kernels.ops import AttentionPlan, Part, Quantization, RotaryTable, Write
from chunkwise.llm.kernels.reference import ReferenceKernels, dequantize, quantize

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
TYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1.6e-2}  # two roundings of bfloat16

# Shrinking in the interpreter takes minutes.
PHASES = [Phase.generate] if INTERPRETED else list(Phase)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module", autouse=True)
def _bfloat16_products() -> Iterator[None]:
    """The interpreter of Triton 3.9 multiplies bfloat16 as if its bits were whole numbers."""
    with pytest.MonkeyPatch.context() as patch:
        if INTERPRETED:
            from triton import language
            from triton.runtime.interpreter import InterpreterBuilder

            multiply = InterpreterBuilder.create_dot

            def create_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
                wide = [self.cast_impl(one, language.float32) for one in (a, b)]
                return multiply(self, *wide, *others)

            patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        yield


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.to(DEVICE, dtype)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if not found.numel():
        return
    error = (found.float() - wanted.float()).abs().max()
    assert error <= TOLERANCE[found.dtype] * max(1.0, float(wanted.float().abs().max()))


def table(positions: int, size: int) -> RotaryTable:
    frequencies = 1e4 ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(positions).float(), frequencies)
    return RotaryTable(angles.cos().to(DEVICE), angles.sin().to(DEVICE))


def segment(capacity: int, heads: int, size: int, dtype: torch.dtype, seed: int) -> Tensor:
    return numbers(2, heads, capacity, size, dtype=dtype, seed=seed)


def part(k: Tensor, v: Tensor, start: int, looks: list[tuple[int, int, int]]) -> Part:
    """`looks`: (row, rel, limit) of each row. Keys that no row sees become NaN."""
    rows, rel, limit = torch.tensor(sorted(looks)).T.contiguous()
    k[:, :, int(limit.max()) :] = v[:, :, int(limit.max()) :] = torch.nan
    return Part(k, v, start, rows, rel, limit)


class Spec(NamedTuple):
    """A part before its tensors are made."""

    capacity: int
    start: int
    looks: list[tuple[int, int, int]]


@st.composite
def specs(draw: st.DrawFn) -> tuple[int, list[Spec]]:
    """Some rows over some segments, shared or not; each row is in the first part."""
    num_rows, found = draw(st.integers(1, 24)), []
    for index in range(draw(st.integers(1, 3))):
        capacity, start = draw(st.integers(1, 90)), draw(st.integers(0, 50))
        some = set(range(num_rows))
        if index:
            some = draw(st.sets(st.integers(0, num_rows - 1), min_size=1))
        looks = []
        for row in some:
            limit = draw(st.integers(1, capacity))
            ahead = draw(st.integers(0, 60))  # how far behind the last key it sees the row stands
            looks.append((row, start + limit - 1 + ahead, limit))
        found.append(Spec(capacity, start, looks))
    return num_rows, found


def plan_of(
    num_rows: int, found: list[Spec], heads: int, size: int, dtype: torch.dtype
) -> AttentionPlan:
    parts = []
    for index, (capacity, start, looks) in enumerate(found):
        k, v = (segment(capacity, heads, size, dtype, 7 * index + i) for i in range(2))
        parts.append(part(k, v, start, looks))
    return AttentionPlan(num_rows, parts, [])


def attend_both(
    plan: AttentionPlan, heads: int, size: int, dtype: torch.dtype, window: int = 0
) -> tuple[Tensor, Tensor]:
    q = numbers(plan.num_rows, heads + 2, size, dtype=dtype)[:, :heads]  # rows are strided
    kernels, rotary, scale = CudaKernels(dtype), table(640, size), size**-0.5
    kernels.prepare(plan)
    found = kernels.attend(q, plan, 1, rotary, scale=scale, window=window)
    assert found.is_contiguous()
    wanted = ReferenceKernels().attend(q, plan, 1, rotary, scale=scale, window=window)
    return found, wanted


EXAMPLES = 1 if INTERPRETED else 40  # the interpreter needs half a second for each


@pytest.mark.parametrize(("group", "size"), [(1, 32), (7, 64), (3, 80)])
@given(data=st.data())
@settings(deadline=None, max_examples=EXAMPLES, derandomize=INTERPRETED, phases=PHASES)
def test_attention_over_any_plan(group: int, size: int, data: st.DataObject) -> None:
    dtype, window = data.draw(st.sampled_from(TYPES)), data.draw(st.sampled_from([0, 1, 17]))
    plan = plan_of(*data.draw(specs()), heads=2, size=size, dtype=dtype)
    assert_near(*attend_both(plan, 2 * group, size, dtype, window))


@pytest.mark.parametrize("dtype", TYPES)
def test_prompt_and_decode_rows_share_a_launch(dtype: torch.dtype) -> None:
    prompt = [(row, row, row + 1) for row in range(18)]
    shared = [(18, 300, 60), (19, 59, 60), (20, 200, 60)]
    found = [Spec(70, 0, [*prompt, *shared]), Spec(80, 64, [(18, 143, 80), (20, 130, 67)])]
    assert_near(*attend_both(plan_of(21, found, 1, 64, dtype), 4, 64, dtype))


@pytest.mark.parametrize("window", [0, 40])
def test_long_segments_are_split_along_keys(window: int) -> None:
    found = [Spec(640, 0, [(0, 620, 600), (1, 300, 280), (2, 0, 1)])]
    plan = plan_of(3, found, 1, 32, torch.float32)
    assert_near(*attend_both(plan, 2, 32, torch.float32, window))
    assert plan.prepared.work(2).slots == 9


def test_rows_that_see_nothing_under_the_window_count_nothing() -> None:
    found = [Spec(8, 0, [(0, 7, 8), (1, 3, 4)]), Spec(8, 0, [(1, 90, 8)])]
    plan = plan_of(2, found, 1, 32, torch.float32)
    assert_near(*attend_both(plan, 2, 32, torch.float32, 5))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [64, 80])
def test_store_writes_its_rows_and_no_others(dtype: torch.dtype, size: int) -> None:
    heads, rotary, shapes = 2, table(64, size), [(9, 0), (20, 1), (6, 2)]
    whole = numbers(9, 4 * heads, size, dtype=dtype)
    k, v = whole[:, heads : 2 * heads], whole[:, 2 * heads : 3 * heads]

    def stored(kernels: ReferenceKernels) -> list[Tensor]:
        kv = [[segment(n, heads, size, dtype, seed + i) for i in (0, 5)] for n, seed in shapes]
        places = [(0, 5, 4, 3), (5, 1, 0, 30), (6, 3, 3, 63 - 3)]  # row, n, offset, rel
        writes = [Write(*one, *place) for one, place in zip(kv, places, strict=True)]
        looks = torch.arange(9)
        plan = AttentionPlan(9, [Part(*kv[0], 0, looks, looks, looks + 1)], writes)
        kernels.prepare(plan)
        kernels.store(k, v, plan, 1, rotary)
        return [tensor for one in kv for tensor in one]

    for found, wanted in zip(stored(CudaKernels(dtype)), stored(ReferenceKernels()), strict=True):
        assert_near(found, wanted)
        assert torch.equal(found[0], wanted[0]), "another layer was touched"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 96), (3, 1030), (2, 5, 64)])
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    wider = numbers(*shape[:-2], shape[-2] + 3, shape[-1], dtype=dtype)
    x, weight = wider[..., 2:-1, :], numbers(shape[-1], dtype=dtype, seed=1)
    found = CudaKernels(dtype).rms_norm(x, weight, 1e-5)
    assert_near(found, ReferenceKernels().rms_norm(x, weight, 1e-5))


@pytest.mark.parametrize("dtype", TYPES)
def test_add_rms_norm(dtype: torch.dtype) -> None:
    x, residual = (numbers(3, 130, dtype=dtype, seed=seed) for seed in (1, 2))
    weight = numbers(130, dtype=dtype)
    wanted = ReferenceKernels().add_rms_norm(x, residual.clone(), weight, 1e-6)
    for found, expected in zip(
        CudaKernels(dtype).add_rms_norm(x, residual, weight, 1e-6), wanted, strict=True
    ):
        assert_near(found, expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_silu_mul(dtype: torch.dtype) -> None:
    gate_up = 8 * numbers(3, 2 * 1030, dtype=dtype)
    found = CudaKernels(dtype).silu_mul(gate_up)
    assert_near(found, ReferenceKernels().silu_mul(gate_up))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("rows", [0, 2, FEW_ROWS + 1])
@pytest.mark.parametrize(("out", "columns"), [(11, 1100), (5, 40)])
def test_linear(
    out: int, columns: int, rows: int, quantization: Quantization, dtype: torch.dtype
) -> None:
    matrix = numbers(out, columns, dtype=dtype)
    bias = numbers(out, dtype=dtype, seed=1) if out == 11 else None
    x = numbers(rows, columns, dtype=dtype, seed=2)
    kernels = CudaKernels(dtype)
    weight = kernels.pack(matrix, bias, quantization=quantization)
    assert (weight.dense is None) == (quantization != "none")
    exact = matrix.float()
    if quantization != "none":
        exact = dequantize(*quantize(matrix, quantization))
    wanted = x.float() @ exact.T + (0 if bias is None else bias.float())
    assert_near(kernels.linear(x, weight), wanted.to(dtype))


def test_int4_takes_half_a_byte_for_each_number() -> None:
    matrix = numbers(64, 512)
    packed = CudaKernels(torch.float32).pack(matrix, quantization="int4").packed
    assert packed["whole"].nbytes == matrix.numel() // 2


def test_rows_that_kernels_expand_equal_the_dense_matrix() -> None:
    for quantization in ("int8", "int4"):
        matrix = numbers(6, 90, dtype=torch.bfloat16)
        kernels = CudaKernels(torch.bfloat16)
        weight = kernels.pack(matrix, quantization=quantization)
        eye = torch.eye(90, dtype=torch.bfloat16, device=DEVICE)
        wanted = dequantize(*quantize(matrix, quantization)).to(torch.bfloat16)
        found = kernels.linear(eye, weight).T
        # The interpreter cuts bfloat16 off instead of rounding it.
        assert torch.allclose(found, wanted, rtol=2**-7 if INTERPRETED else 0, atol=0)


def test_reasons_name_triton() -> None:
    assert "Triton" in CudaKernels(torch.float32).reasons()["attention"]
