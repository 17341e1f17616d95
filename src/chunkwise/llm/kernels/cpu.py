"""The operations on this processor: C++ where it can be built, torch where not."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from chunkwise.llm.kernels import native
from chunkwise.llm.kernels.cpu_attention import TorchAttention
from chunkwise.llm.kernels.cpu_linear import CpuLinear
from chunkwise.llm.kernels.cpu_native import NativeAttention, NativeElementwise
from chunkwise.llm.kernels.ops import AttentionPlan, Quantization, RotaryTable, Weight
from chunkwise.llm.kernels.reference import ReferenceKernels


class CpuKernels(ReferenceKernels):
    """See `Kernels`.

    Args:
        dtype: Of activations and KV: float32 or bfloat16.
    """

    name = "cpu"

    def __init__(self, dtype: torch.dtype) -> None:
        self._linear = CpuLinear(dtype)
        self._torch = TorchAttention()
        self._native: NativeAttention | None = None
        self._elementwise: NativeElementwise | None = None
        self._why = _why_not(dtype)
        if not self._why:
            library = native.library()
            self._native, self._elementwise = NativeAttention(library), NativeElementwise(library)
            self._why = _how(library, dtype)

    def reasons(self) -> dict[str, str]:
        """See `Kernels.reasons`."""
        if self._native is None:
            other = f"torch ({self._why})"
            return {**self._linear.reasons(), "attention": other, "norms and SwiGLU": other}
        attention = f"C++ ({self._why}; torch for head sizes that are not multiples of 16)"
        return {**self._linear.reasons(), "attention": attention, "norms and SwiGLU": "C++"}

    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        quantization: Quantization = "none",
        gated: bool = False,
    ) -> Weight:
        """See `Kernels.pack`."""
        return self._linear.pack(weight, bias, quantization=quantization, gated=gated)

    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        """See `Kernels.linear`."""
        return self._linear.linear(x, weight)

    def gated_linear(self, x: Tensor, weight: Weight) -> Tensor:
        """See `Kernels.gated_linear`."""
        if weight.is_gated:
            return self._linear.linear(x, weight)
        return super().gated_linear(x, weight)

    def gather_rows(self, weight: Weight, rows: Tensor) -> Tensor:
        """See `Kernels.gather_rows`."""
        return self._linear.gather_rows(weight, rows)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels.rms_norm`."""
        if self._elementwise is None:
            return super().rms_norm(x, weight, eps)
        return self._elementwise.rms_norm(x, weight, eps)

    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """See `Kernels.add_rms_norm`."""
        if self._elementwise is None:
            return super().add_rms_norm(x, residual, weight, eps)
        return self._elementwise.add_rms_norm(x, residual, weight, eps)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels.silu_mul`."""
        if self._elementwise is None:
            return super().silu_mul(gate_up)
        return self._elementwise.silu_mul(gate_up)

    def prepare(self, plan: AttentionPlan) -> None:
        """See `Kernels.prepare`."""
        self._attention(plan).prepare(plan)

    def store(
        self, k: Tensor, v: Tensor, plan: AttentionPlan, layer: int, rotary: RotaryTable
    ) -> None:
        """See `Kernels.store`."""
        attention = self._attention(plan)
        if isinstance(attention, NativeAttention):
            attention.store(k, v, plan, layer, rotary)
        else:
            super().store(k, v, plan, layer, rotary)

    def attend(
        self,
        q: Tensor,
        plan: AttentionPlan,
        layer: int,
        rotary: RotaryTable,
        *,
        scale: float,
        window: int = 0,
    ) -> Tensor:
        """See `Kernels.attend`."""
        attention = self._attention(plan)
        return attention.attend(q, plan, layer, rotary, scale=scale, window=window)

    def _attention(self, plan: AttentionPlan) -> NativeAttention | TorchAttention:
        """By head size: the only thing in a plan that C++ may not be made for."""
        if self._native is None or (plan.parts and plan.parts[0].k.shape[-1] % 16):
            return self._torch
        return self._native


def _why_not(dtype: torch.dtype) -> str:
    """Why C++ cannot be used; empty if it can."""
    if dtype not in (torch.float32, torch.bfloat16):
        return f"the C++ is for float32 and bfloat16, not {dtype}"
    try:
        native.library()
    except native.Unavailable as exc:
        return str(exc)
    return ""


def _how(library: ctypes.CDLL, dtype: torch.dtype) -> str:
    if dtype == torch.float32:
        return "AVX-512, float32"
    return "AMX, bfloat16" if library.chunkwise_attention_tiles() else "AVX-512, bfloat16"
