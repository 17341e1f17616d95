"""The operations on a CUDA device: Triton kernels, and cuBLAS for dense products.

torch's CUDA wheels for Linux bring Triton along. Where it cannot be imported all operations are
plain torch on the device, and `reasons` says so: torch has no public attention that returns the
log-sum-exp, and its private one takes no masks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from chunkwise.llm.kernels.cuda_plan import FlatPlan, flatten
from chunkwise.llm.kernels.ops import AttentionPlan, Quantization, RotaryTable, Weight
from chunkwise.llm.kernels.reference import INT4_GROUP, ReferenceKernels, quantize

try:
    from chunkwise.llm.kernels import triton_attention, triton_elementwise, triton_linear
except ImportError as exc:  # said by `reasons`
    _MISSING = str(exc)
else:
    _MISSING = ""

FEW_ROWS = 4
"""Up to so many rows a product reads whole-number weights as they are."""


class CudaKernels(ReferenceKernels):
    """See `Kernels`. Plans and activations are on one device, segments too.

    Args:
        dtype: Of activations and KV: float32 or bfloat16.
    """

    name = "cuda"

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._has_triton = not _MISSING

    def reasons(self) -> dict[str, str]:
        """See `Kernels.reasons`."""
        if not self._has_triton:
            return {"all operations": f"plain torch, slow: Triton cannot be used ({_MISSING})"}
        return {
            "attention": "Triton, one launch for all segments",
            "norms, activations": "Triton",
            "linear": f"cuBLAS; whole-number weights up to {FEW_ROWS} rows in Triton, above "
            "expanded for cuBLAS",
        }

    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        quantization: Quantization = "none",
        gated: bool = False,
    ) -> Weight:
        """See `Kernels.pack`."""
        if quantization == "none" or not self._has_triton:
            return super().pack(weight, bias, quantization=quantization)
        out_features, in_features = weight.shape
        whole, scales = quantize(weight, quantization)
        if quantization == "int4":
            whole = _two_per_byte(whole)
        packed = {"whole": whole, "scales": scales}
        return Weight(out_features, in_features, quantization, None, bias, packed)

    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        """See `Kernels.linear`."""
        if weight.dense is not None:
            return F.linear(x, weight.dense, weight.bias)
        whole, scales = weight.packed["whole"], weight.packed["scales"]
        int4 = weight.quantization == "int4"
        if len(x) <= FEW_ROWS:
            return triton_linear.linear_few(x, whole, scales, weight.bias, int4=int4)
        dense = triton_linear.dense(whole, scales, weight.in_features, x.dtype, int4=int4)
        return F.linear(x, dense, weight.bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels.rms_norm`."""
        if not self._has_triton:
            return super().rms_norm(x, weight, eps)
        return triton_elementwise.rms_norm(x, weight, eps)

    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """See `Kernels.add_rms_norm`."""
        if not self._has_triton:
            return super().add_rms_norm(x, residual, weight, eps)
        return triton_elementwise.add_rms_norm(x, residual, weight, eps)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels.silu_mul`."""
        if not self._has_triton:
            return super().silu_mul(gate_up)
        return triton_elementwise.silu_mul(gate_up)

    def prepare(self, plan: AttentionPlan) -> None:
        """See `Kernels.prepare`."""
        if self._has_triton:
            plan.prepared = flatten(plan)

    def store(
        self, k: Tensor, v: Tensor, plan: AttentionPlan, layer: int, rotary: RotaryTable
    ) -> None:
        """See `Kernels.store`."""
        if not self._has_triton:
            return super().store(k, v, plan, layer, rotary)
        return triton_attention.store(k, v, _flat(plan), layer, rotary)

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
        if not self._has_triton:
            return super().attend(q, plan, layer, rotary, scale=scale, window=window)
        return triton_attention.attend(q, _flat(plan), layer, rotary, scale, window)


def _flat(plan: AttentionPlan) -> FlatPlan:
    assert isinstance(plan.prepared, FlatPlan), "`prepare` comes first"
    return plan.prepared


def _two_per_byte(whole: Tensor) -> Tensor:
    """Numbers -7 .. 7, `(out, in)` int8, as `triton_linear` reads them: `(out, half)` uint8."""
    padded = F.pad(whole, (0, -whole.shape[1] % (2 * INT4_GROUP)))
    low, high = (padded + 8).to(torch.uint8).chunk(2, dim=1)
    return low | high << 4
