"""Linear layers on the CPU against the reference numbers, on every path and at odd shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chunkwise.llm.kernels import cpu_linear, native
from chunkwise.llm.kernels.cpu import CpuKernels
from chunkwise.llm.kernels.cpu_linear import CpuLinear
from chunkwise.llm.kernels.ops import Quantization
from chunkwise.llm.kernels.reference import ReferenceKernels, dequantize, quantize

ROWS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 130, 300]
SHAPES = [(1, 1), (16, 32), (33, 31), (50, 70), (64, 512), (100, 1030), (520, 96)]
QUANTIZATIONS: list[Quantization] = ["none", "int8", "int4"]
DTYPES = [torch.bfloat16, torch.float32]


@pytest.fixture(params=["native", "torch", "no AMX", "widened"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the C++ kernels, without them, and with them on a machine without AMX."""
    if request.param == "torch":
        monkeypatch.setenv("CHUNKWISE_NATIVE", "0")
    else:
        try:
            native.library()
        except native.Unavailable as exc:
            pytest.skip(str(exc))
    if request.param == "widened":  # any number of rows of quantised weights
        for name in ("_AMX_ROWS", "_VECTOR_ROWS"):
            monkeypatch.setattr(cpu_linear, name, 1)
    return request.param


def make(path: str, dtype: torch.dtype) -> CpuLinear:
    kernels = CpuLinear(dtype)
    assert (kernels._native is None) == (path == "torch")
    if path == "no AMX":
        kernels._amx = False
    return kernels


def tolerance(path: str, dtype: torch.dtype, quantization: Quantization) -> float:
    """Of `|x| @ |weight|.T + |bias|`: rounding of the result and of widened weights to bfloat16
    (2^-9 each), of int4 scales to float16, of activations to 16 bits."""
    if dtype == torch.bfloat16:
        return 2.0**-6 if path == "torch" else 2.0**-8
    return {"none": 2.0**-18, "int8": 2.0**-14, "int4": 2.0**-10}[quantization]


def worst(
    out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, quantization: Quantization
) -> float:
    """The largest error as a share of what is summed, against the numbers of the reference."""
    numbers = weight if quantization == "none" else dequantize(*quantize(weight, quantization))
    add = torch.zeros(len(weight)) if bias is None else bias
    exact = x.double() @ numbers.double().T + add.double()
    size = x.double().abs() @ numbers.double().abs().T + add.double().abs() + 1e-30
    return float(((out.double() - exact).abs() / size).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_equals_the_reference_at_odd_shapes_and_row_counts(
    path: str, dtype: torch.dtype, quantization: Quantization
) -> None:
    torch.manual_seed(0)
    kernels = make(path, dtype)
    for n, k in SHAPES:
        weight = (torch.randn(n, k) * torch.rand(n, 1)).to(dtype)
        biases = [None, torch.randn(n).to(dtype)]
        packs = [kernels.pack(weight, bias, quantization=quantization) for bias in biases]
        for rows in ROWS if n == 100 else ROWS[::4]:
            bias, packed = biases[rows % 2], packs[rows % 2]
            x = torch.randn(rows, k).to(dtype)
            out = kernels.linear(x, packed)
            assert out.shape == (rows, n)
            assert out.dtype == dtype
            error = worst(out, x, weight, bias, quantization)
            assert error < tolerance(path, dtype, quantization), (n, k, rows)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("rows", [1, 6, 40])
def test_rows_may_be_strided(path: str, quantization: Quantization, rows: int) -> None:
    torch.manual_seed(1)
    kernels = make(path, torch.bfloat16)
    packed = kernels.pack(torch.randn(48, 64).bfloat16(), quantization=quantization)
    wide = torch.randn(rows, 3 * 64).bfloat16()
    part = wide[:, 64:128]
    assert torch.equal(kernels.linear(part, packed), kernels.linear(part.contiguous(), packed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("rows", [2, 9, 40])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_row(
    path: str, dtype: torch.dtype, quantization: Quantization, rows: int, bad: float
) -> None:
    torch.manual_seed(2)
    kernels = make(path, dtype)
    packed = kernels.pack(torch.randn(40, 70).to(dtype), quantization=quantization)
    x = torch.randn(rows, 70).to(dtype)
    clean = kernels.linear(x, packed)
    x[1, 69] = bad
    spoiled = kernels.linear(x, packed)
    others = torch.arange(rows) != 1
    assert torch.equal(clean[others], spoiled[others])
    assert not spoiled[1].isfinite().any()


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_zero_rows_tiny_rows_and_zero_weights_are_exact(
    path: str, quantization: Quantization
) -> None:
    kernels = make(path, torch.bfloat16)
    weight = torch.zeros(32, 64).bfloat16()
    weight[3, 5] = 2.0
    packed = kernels.pack(weight, quantization=quantization)
    x = torch.zeros(12, 64).bfloat16()
    x[4, 5] = 2.0**-20
    expected = torch.zeros(12, 32).bfloat16()
    expected[4, 3] = 2.0**-19
    assert torch.allclose(kernels.linear(x, packed), expected, rtol=2**-7, atol=0)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 70),
    st.integers(1, 90),
    st.integers(1, 150),
    st.sampled_from(QUANTIZATIONS),
    st.integers(-60, 60),
)
def test_any_shape_and_scale(
    rows: int, n: int, k: int, quantization: Quantization, power: int
) -> None:
    torch.manual_seed(rows * 1000 + n)
    kernels = CpuLinear(torch.bfloat16)
    weight = torch.randn(n, k).bfloat16()
    x = (torch.randn(rows, k) * 2.0**power).bfloat16()
    out = kernels.linear(x, kernels.pack(weight, quantization=quantization))
    assert worst(out, x, weight, None, quantization) < 2**-6


@pytest.mark.parametrize("rows", [1, 40])
def test_activations_with_one_huge_channel_keep_the_others(path: str, rows: int) -> None:
    """Models have channels a thousand times the rest; each group of columns has its own scale."""
    torch.manual_seed(3)
    kernels = make(path, torch.float32)
    weight = torch.randn(64, 256)
    weight[:, 7] = 0
    x = torch.randn(rows, 256)
    x[:, 7] = 3000.0
    packed = kernels.pack(weight, quantization="int8")
    numbers = dequantize(*quantize(weight, "int8"))
    error = (kernels.linear(x, packed) - x @ numbers.T).norm() / (x @ numbers.T).norm()
    assert error < 2**-4 if path == "torch" else error < 2**-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_those_of_the_reference(path: str, dtype: torch.dtype) -> None:
    """An identity as x brings the weights themselves to light."""
    torch.manual_seed(4)
    weight = torch.randn(40, 96).to(dtype)
    kernels, reference = make(path, dtype), ReferenceKernels()
    for quantization in QUANTIZATIONS:
        ours = kernels.pack(weight, quantization=quantization)
        theirs = reference.pack(weight, quantization=quantization)
        eye = torch.eye(96).to(dtype)
        limit = 2**-7 if dtype == torch.bfloat16 else 2**-10
        assert torch.allclose(
            kernels.linear(eye, ours), reference.linear(eye, theirs), rtol=limit, atol=1e-6
        )


@pytest.mark.parametrize(("quantization", "bytes_per_weight"), [("int8", 1.0), ("int4", 0.5625)])
def test_only_the_quantised_form_is_kept(
    path: str, quantization: Quantization, bytes_per_weight: float
) -> None:
    if path == "torch":
        bytes_per_weight = 1.125 if quantization == "int4" else 1.0
    packed = make(path, torch.bfloat16).pack(
        torch.randn(256, 512).bfloat16(), quantization=quantization
    )
    assert packed.dense is None
    scales = 256 * 4
    assert packed.nbytes <= 256 * 512 * bytes_per_weight + scales


def test_one_form_of_bfloat16_weights_is_kept(path: str) -> None:
    weight = torch.randn(64, 96).bfloat16()
    kernels = make(path, torch.bfloat16)
    packed = kernels.pack(weight)
    assert (packed.dense is None) == (path != "torch")
    if packed.dense is not None:
        assert packed.dense.data_ptr() == weight.data_ptr()
    assert packed.nbytes == weight.nbytes


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "k"), [(1, 1), (8, 32), (16, 40), (50, 70), (96, 1300)])
def test_gated_layers_equal_the_layer_and_then_the_gate(
    path: str, dtype: torch.dtype, quantization: Quantization, width: int, k: int
) -> None:
    torch.manual_seed(7)
    kernels, reference = CpuKernels(dtype), ReferenceKernels()
    kernels._linear = make(path, dtype)
    weight, bias = torch.randn(2 * width, k).to(dtype), torch.randn(2 * width).to(dtype)
    for add in (None, bias):
        packed = kernels.pack(weight, add, quantization=quantization, gated=True)
        plain = kernels.pack(weight, add, quantization=quantization)
        for rows in (1, 17, 40, 600):
            x = torch.randn(rows, k).to(dtype)
            found = kernels.gated_linear(x, packed)
            wanted = reference.silu_mul(kernels.linear(x, plain))
            assert found.shape == (rows, width)
            torch.testing.assert_close(found, wanted, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_rows_are_given_back_as_they_were(path: str, n: int, k: int) -> None:
    weight = torch.randn(n, k).bfloat16()
    kernels = make(path, torch.bfloat16)
    rows = torch.tensor([0, n - 1, n // 2, n // 2])
    assert torch.equal(kernels.gather_rows(kernels.pack(weight), rows), weight[rows])


def test_no_rows_give_no_rows(path: str) -> None:
    kernels = make(path, torch.bfloat16)
    for quantization in QUANTIZATIONS:
        packed = kernels.pack(torch.randn(8, 16).bfloat16(), quantization=quantization)
        assert kernels.linear(torch.empty(0, 16).bfloat16(), packed).shape == (0, 8)


def test_threads_do_not_change_results(path: str) -> None:
    torch.manual_seed(5)
    kernels = make(path, torch.bfloat16)
    before = torch.get_num_threads()
    try:
        for quantization in QUANTIZATIONS:
            packed = kernels.pack(torch.randn(200, 160).bfloat16(), quantization=quantization)
            for rows in (1, 20, 70):
                x = torch.randn(rows, 160).bfloat16()
                torch.set_num_threads(1)
                one = kernels.linear(x, packed)
                torch.set_num_threads(2)
                if path != "torch":
                    assert torch.equal(one, kernels.linear(x, packed))
    finally:
        torch.set_num_threads(before)


def test_reasons_say_what_runs(path: str) -> None:
    reasons = make(path, torch.bfloat16).reasons()
    assert set(reasons) == {"linear", "linear (int8, int4)"}
    if path == "torch":
        assert all("CHUNKWISE_NATIVE=0" in reason for reason in reasons.values())
