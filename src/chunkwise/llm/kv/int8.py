"""Keys and values as whole numbers of eight bits: half the bytes of bfloat16, some loss.

Keys have a scale for each head and channel, as a few channels are large in all tokens; values one
for each head and token.

Source: KIVI (arXiv 2402.02750), which axes; here with eight bits and no zero points.
Differs: keys are quantised as they are stored, rotated from the chunk's start.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST = 127.0


class Quantised(NamedTuple):
    """Keys and values of a segment.

    Attributes:
        k: `(num_layers, num_kv_heads, n, head_dim)` int8.
        v: Likewise.
        k_scale: `(num_layers, num_kv_heads, 1, head_dim)` float32.
        v_scale: `(num_layers, num_kv_heads, n, 1)` float32.
    """

    k: Tensor
    v: Tensor
    k_scale: Tensor
    v_scale: Tensor

    @classmethod
    def of(cls, k: Tensor, v: Tensor) -> Quantised:
        """Round to the nearest step."""
        (k, k_scale), (v, v_scale) = _rounded(k, 2), _rounded(v, 3)
        return cls(k, v, k_scale, v_scale)

    def restored(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values as an engine reads them."""
        return (self.k * self.k_scale).to(dtype), (self.v * self.v_scale).to(dtype)


def _rounded(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Steps, and the size of a step for what differs along no `axis`."""
    x = x.float()
    scale = x.abs().amax(axis, keepdim=True) / _LARGEST
    steps = torch.where(scale > 0, x / scale, 0.0).round().to(torch.int8)
    return steps, scale
