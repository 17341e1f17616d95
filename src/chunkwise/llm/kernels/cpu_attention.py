"""Attention over segments on the processor: by torch's flash kernel, or by our C++.

`TorchAttention` runs anywhere torch does. `NativeAttention` (csrc/attention.cpp) reads a plan
flattened once per step, so that a layer costs one call whatever the number of segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable
from chunkwise.llm.kernels.reference import merge_partials, rotate, visible


class TorchAttention:
    """Attention with `aten::_scaled_dot_product_flash_attention_for_cpu`, one call per segment.

    Segments that all their rows see in full need no mask; rows whose limits rise one by one need
    one call without a mask and one causal call; only other patterns need a mask.
    """

    def prepare(self, plan: AttentionPlan) -> None:
        """Keep a place for the shapes of the parts; they are found in the first layer."""
        plan.prepared = _TorchPlan()

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
        out = torch.zeros(q.shape, dtype=torch.float32)
        lse = torch.full(q.shape[:2], -torch.inf)
        for part, call in self._calls(plan, window):
            turned = rotate(q[call.rows], call.rel, rotary)
            one = _attend_keys(turned, part, layer, call, scale)
            out[call.rows], lse[call.rows] = merge_partials((out[call.rows], lse[call.rows]), one)
        return out.to(q.dtype)

    def _calls(self, plan: AttentionPlan, window: int) -> list[tuple[Part, _Call]]:
        if not isinstance(plan.prepared, _TorchPlan):
            self.prepare(plan)
        calls: dict[int, list[tuple[Part, _Call]]] = plan.prepared.calls
        if window not in calls:
            calls[window] = [(part, c) for part in plan.parts for c in _part_calls(part, window)]
        return calls[window]


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the flash kernel: `rows` over keys `first .. last`."""

    rows: Tensor
    rel: Tensor
    first: int
    last: int
    causal: bool = False
    mask: Tensor | None = None


@dataclass(slots=True)
class _TorchPlan:
    calls: dict[int, list[tuple[Part, _Call]]] = field(default_factory=dict)


def _part_calls(part: Part, window: int) -> list[_Call]:
    low, high = int(part.limit.min()), int(part.limit.max())
    count = len(part.rows)
    if part.hides is None and not (window and int(part.rel.max()) - part.start >= window):
        if low == high:
            return [_Call(part.rows, part.rel, 0, high)]
        if high - low == count - 1 and bool((part.limit.diff() == 1).all()):
            before = [_Call(part.rows, part.rel, 0, low - 1)] if low > 1 else []
            return [*before, _Call(part.rows, part.rel, low - 1, high, causal=True)]
    seen = visible(part, high, window)
    some = seen.any(1)
    if not bool(some.any()):
        return []
    mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[some]
    return [_Call(part.rows[some], part.rel[some], 0, high, mask=mask)]


def _attend_keys(
    q: Tensor, part: Part, layer: int, call: _Call, scale: float
) -> tuple[Tensor, Tensor]:
    """Rotated rows `(n, H, D)` over some keys of a part: `(n, H, D)` and `(n, H)`, float32."""
    keys = slice(call.first, call.last)
    k, v = part.k[layer, None, :, keys], part.v[layer, None, :, keys]
    rows, heads, size = q.shape
    if call.causal or call.mask is not None:
        out, lse = _flash(q.transpose(0, 1)[None], k, v, call, scale)
        return out[0].transpose(0, 1).float(), lse[0].transpose(0, 1)
    # Without a mask the query heads of a KV head are just more rows: (Hkv, n * G, D).
    kv_heads = k.shape[1]
    stacked = q.reshape(rows, kv_heads, -1, size).transpose(0, 1).reshape(1, kv_heads, -1, size)
    out, lse = _flash(stacked, k, v, call, scale)
    out = out[0].view(kv_heads, rows, -1, size).transpose(0, 1).reshape(rows, heads, size)
    return out.float(), lse[0].view(kv_heads, rows, -1).transpose(0, 1).reshape(rows, heads)


def _flash(q: Tensor, k: Tensor, v: Tensor, call: _Call, scale: float) -> tuple[Tensor, Tensor]:
    """The only place that calls this private operator of torch; it returns log-sum-exp too."""
    mask = None if call.mask is None else call.mask.to(q.dtype)[None, None]
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, call.causal, attn_mask=mask, scale=scale
    )
    return out, lse
