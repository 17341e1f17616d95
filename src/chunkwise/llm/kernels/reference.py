"""Every operation in plain torch: slow, obvious, on any device. The oracle of the other kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from chunkwise.llm.kernels.ops import (
    AttentionPlan,
    Kernels,
    Part,
    Quantization,
    RotaryTable,
    Weight,
)


class ReferenceKernels(Kernels):
    """See `Kernels`. Quantised weights are kept as the numbers they stand for."""

    name = "reference"

    def reasons(self) -> dict[str, str]:
        """See `Kernels.reasons`."""
        return {"all operations": "reference (plain torch)"}

    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        quantization: Quantization = "none",
        gated: bool = False,
    ) -> Weight:
        """See `Kernels.pack`."""
        out_features, in_features = weight.shape
        if quantization != "none":
            weight = dequantize(*quantize(weight, quantization)).to(weight.dtype)
        return Weight(out_features, in_features, quantization, weight, bias)

    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        """See `Kernels.linear`."""
        assert weight.dense is not None, "the reference keeps dense weights"
        return F.linear(x, weight.dense, weight.bias)

    def gather_rows(self, weight: Weight, rows: Tensor) -> Tensor:
        """See `Kernels.gather_rows`."""
        assert weight.dense is not None, "the reference keeps dense weights"
        return F.embedding(rows, weight.dense)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels.rms_norm`."""
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return (wide * scale).to(x.dtype) * weight

    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """See `Kernels.add_rms_norm`."""
        total = x + residual
        return self.rms_norm(total, weight, eps), total

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels.silu_mul`."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def prepare(self, plan: AttentionPlan) -> None:
        """Nothing: the reference works from the plan itself."""

    def store(
        self, k: Tensor, v: Tensor, plan: AttentionPlan, layer: int, rotary: RotaryTable
    ) -> None:
        """See `Kernels.store`."""
        for write in plan.writes:
            rows = slice(write.row, write.row + write.n)
            keys = slice(write.offset, write.offset + write.n)
            rel = torch.arange(write.rel, write.rel + write.n, device=k.device)
            write.k[layer, :, keys] = rotate(k[rows], rel, rotary).transpose(0, 1)
            write.v[layer, :, keys] = v[rows].transpose(0, 1)

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
        rows, num_heads, _ = q.shape
        out = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
        lse = torch.full((rows, num_heads), -torch.inf, device=q.device)
        for part in plan.parts:
            at = part.rows.to(q.device)
            one = attend_part(rotate(q[at], part.rel, rotary), part, layer, scale, window)
            out[at], lse[at] = merge_partials((out[at], lse[at]), one)
        return out.to(q.dtype)


def rotate(x: Tensor, positions: Tensor, rotary: RotaryTable) -> Tensor:
    """Rows `(n, heads, D)` turned to their `positions: (n,)`; computed in float32."""
    at = positions.to(x.device)
    cos, sin = rotary.cos[at][:, None], rotary.sin[at][:, None]
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1).to(x.dtype)


def attend_part(
    q: Tensor, part: Part, layer: int, scale: float, window: int
) -> tuple[Tensor, Tensor]:
    """Attention of rotated rows `(n, H, D)` over one segment: `(n, H, D)` and log-sum-exp
    `(n, H)`, float32. A row that sees no key under the window has log-sum-exp minus infinity."""
    num_keys = int(part.limit.max())
    k, v = part.k[layer, :, :num_keys].float(), part.v[layer, :, :num_keys].float()
    group = q.shape[1] // k.shape[0]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)  # (H, num_keys, D)
    scores = torch.einsum("nhd,hkd->nhk", q.float(), k) * scale
    hidden = ~visible(part, num_keys, window).to(q.device)
    scores = scores.masked_fill(hidden[:, None], -torch.inf)
    lse = scores.logsumexp(-1)
    weights = torch.exp(scores - lse.clamp_min(torch.finfo(torch.float32).min)[..., None])
    return torch.einsum("nhk,hkd->nhd", weights, v), lse


def visible(part: Part, num_keys: int, window: int) -> Tensor:
    """Which of the first `num_keys` keys each row of a part sees: `(n, num_keys)` bool."""
    key = torch.arange(num_keys)
    seen = key < part.limit[:, None]
    if window:
        seen &= part.rel[:, None] - (part.start + key) < window
    if part.hides is not None and part.hidden is not None:
        none = torch.zeros(1, num_keys, dtype=torch.bool)
        seen &= ~torch.cat([part.hides[:, :num_keys], none])[part.hidden]  # -1: the last one
    return seen


def merge_partials(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two disjoint sets of keys as one: `(out (..., D), lse (...))`, float32.

    A side that saw no key has log-sum-exp minus infinity and counts nothing, even if both are so.
    """
    (out_a, lse_a), (out_b, lse_b) = a, b
    top = torch.maximum(lse_a, lse_b).clamp_min(torch.finfo(torch.float32).min)
    weight_a, weight_b = torch.exp(lse_a - top), torch.exp(lse_b - top)
    total = weight_a + weight_b
    out = out_a * weight_a[..., None] + out_b * weight_b[..., None]
    return out / total.clamp_min(torch.finfo(torch.float32).tiny)[..., None], top + total.log()


INT4_GROUP = 32
"""Columns that share a scale in int4. int8 has one scale per row of the matrix."""


def quantize(weight: Tensor, quantization: Quantization) -> tuple[Tensor, Tensor]:
    """Symmetric round-to-nearest: whole numbers `(out, in)` int8 and scales `(out, groups)` f32.

    int8 holds -127 .. 127 with one group per row, int4 -7 .. 7 with groups of `INT4_GROUP`; the
    last group of a row may be shorter.
    """
    levels, group = (127, weight.shape[1]) if quantization == "int8" else (7, INT4_GROUP)
    columns = weight.shape[1]
    padded = F.pad(weight.float(), (0, -columns % group))
    wide = padded.view(len(padded), -1, group)
    scales = (wide.abs().amax(-1) / levels).clamp_min(torch.finfo(torch.float32).tiny)
    whole = (wide / scales[..., None]).round().clamp(-levels, levels).to(torch.int8)
    return whole.flatten(1)[:, :columns].contiguous(), scales


def dequantize(whole: Tensor, scales: Tensor) -> Tensor:
    """The float32 matrix that `quantize` stands for."""
    columns = whole.shape[1]
    group = columns if scales.shape[1] == 1 else INT4_GROUP
    return whole.float() * scales.repeat_interleave(group, 1)[:, :columns]
