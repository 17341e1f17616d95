"""Norms and activations in Triton: one pass over memory, rounded where the reference rounds."""

# mypy: disable-error-code="import-not-found, import-untyped"
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See `Kernels.rms_norm`."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    outer = x if x.dim() == 3 else x.reshape(-1, 1, x.shape[-1])  # rows, heads, size
    rows, heads, size = outer.shape
    with torch.cuda.device_of(x):
        _rms_norm[(rows, heads)](
            outer, weight, out, outer.stride(0), outer.stride(1), eps, size, **_row_options(size)
        )
    return out


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `Kernels.add_rms_norm`. `residual` is overwritten by the sum."""
    x, residual = x.contiguous(), residual.contiguous()
    out = torch.empty_like(x)
    size = x.shape[-1]
    with torch.cuda.device_of(x):
        _add_rms_norm[(x.numel() // size,)](
            x, residual, weight, out, eps, size, **_row_options(size)
        )
    return out, residual


def silu_mul(gate_up: Tensor) -> Tensor:
    """See `Kernels.silu_mul`."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty((rows, width))
    with torch.cuda.device_of(gate_up):
        _silu_mul[(rows, triton.cdiv(width, _SILU_BLOCK))](
            gate_up, out, gate_up.stride(0), width, _SILU_BLOCK
        )
    return out


_SILU_BLOCK = 1024


def _row_options(size: int) -> dict[str, int]:
    """A program holds a whole row: 16 numbers per thread, up to 16 warps."""
    block = triton.next_power_of_2(size)
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 512))}


@triton.jit
def _rms_norm(
    x,  # (rows, heads, size)
    weight,
    out,
    row_stride,
    head_stride,
    eps,
    size,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    channel = tl.arange(0, BLOCK)
    is_channel = channel < size
    at = row * row_stride + head * head_stride + channel
    wide = tl.load(x + at, mask=is_channel, other=0.0).to(tl.float32)
    normed = _normed(wide, weight, eps, size, BLOCK)
    target = (row * tl.num_programs(1) + head) * size + channel
    tl.store(out + target, normed, mask=is_channel)


@triton.jit
def _add_rms_norm(
    x,  # (rows, size)
    residual,
    weight,
    out,
    eps,
    size,
    BLOCK: tl.constexpr,
):
    channel = tl.arange(0, BLOCK)
    is_channel = channel < size
    at = tl.program_id(0).to(tl.int64) * size + channel
    dtype = x.dtype.element_ty
    total = tl.load(x + at, mask=is_channel, other=0.0).to(tl.float32)
    total += tl.load(residual + at, mask=is_channel, other=0.0).to(tl.float32)
    total = total.to(dtype)
    tl.store(residual + at, total, mask=is_channel)
    normed = _normed(total.to(tl.float32), weight, eps, size, BLOCK)
    tl.store(out + at, normed, mask=is_channel)


@triton.jit
def _normed(wide, weight, eps, size, BLOCK: tl.constexpr):
    """A row in float32, zeros beyond `size`, to its norm in the type of `weight`."""
    channel = tl.arange(0, BLOCK)
    dtype = weight.dtype.element_ty
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / size + eps)
    factor = tl.load(weight + channel, mask=channel < size, other=0.0)
    return ((wide * scale).to(dtype).to(tl.float32) * factor.to(tl.float32)).to(dtype)


@triton.jit
def _silu_mul(gate_up, out, row_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < width
    dtype = gate_up.dtype.element_ty
    at = gate_up + row * row_stride + channel
    gate = tl.load(at, mask=is_channel, other=0.0).to(tl.float32)
    up = tl.load(at + width, mask=is_channel, other=0.0).to(tl.float32)
    active = (gate / (1.0 + tl.exp(-gate))).to(dtype).to(tl.float32)
    tl.store(out + row * width + channel, (active * up).to(dtype), mask=is_channel)
