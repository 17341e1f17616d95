"""Whole-number weights in Triton: a product for few rows, and the dense matrix for many.

int8 keeps one number per byte. int4 keeps two: byte `j` of a row holds column `j` in its low four
bits and column `j + half` in its high four, both plus 8, where `half` is a multiple of the group.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from chunkwise.llm.kernels.reference import INT4_GROUP

_OUT_BLOCK = 8


def linear_few(
    x: Tensor, whole: Tensor, scales: Tensor, bias: Tensor | None, *, int4: bool
) -> Tensor:
    """`x @ dequantised.T + bias`: `(rows, in)` to `(rows, out)`. The weights are read once per
    row, from the cache after the first, so this is for few rows.

    Args:
        x: `(rows, in)`.
        whole: `(out, in)` int8, or `(out, half)` uint8 for int4.
        scales: `(out, groups)` float32.
        bias: `(out,)` or None.
        int4: How `whole` is to be read.
    """
    x = x.contiguous()
    rows, out_features = x.shape[0], whole.shape[0]
    out = x.new_empty((rows, out_features))
    with torch.cuda.device_of(x):
        _linear_few[(rows, triton.cdiv(out_features, _OUT_BLOCK))](
            x,
            whole,
            scales,
            scales if bias is None else bias,
            out,
            x.shape[1],
            whole.shape[1],
            out_features,
            scales.shape[1],
            IS_INT4=int4,
            HAS_BIAS=bias is not None,
            GROUP=INT4_GROUP,
            BLOCK_OUT=_OUT_BLOCK,
            BLOCK_IN=512,
        )
    return out


def dense(
    whole: Tensor, scales: Tensor, in_features: int, dtype: torch.dtype, *, int4: bool
) -> Tensor:
    """The dense matrix `(out, in_features)`, each number rounded once; see `linear_few`."""
    out = torch.empty((whole.shape[0], in_features), dtype=dtype, device=whole.device)
    block = 1024
    with torch.cuda.device_of(whole):
        _dense[(whole.shape[0], triton.cdiv(whole.shape[1], block))](
            whole,
            scales,
            out,
            in_features,
            whole.shape[1],
            scales.shape[1],
            IS_INT4=int4,
            GROUP=INT4_GROUP,
            BLOCK=block,
        )
    return out


@triton.jit
def _linear_few(
    x,
    whole,
    scales,
    bias,
    out,
    in_features,
    bytes_per_row,
    out_features,
    groups,
    IS_INT4: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1).to(tl.int64) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    is_feature = feature < out_features
    sums = tl.full([BLOCK_OUT, BLOCK_IN], 0.0, tl.float32)
    for begin in range(0, bytes_per_row, BLOCK_IN):
        column = begin + tl.arange(0, BLOCK_IN)
        is_byte = is_feature[:, None] & (column < bytes_per_row)[None, :]
        at = feature[:, None] * bytes_per_row + column[None, :]
        byte = tl.load(whole + at, mask=is_byte, other=0)
        low_x = tl.load(x + row * in_features + column, mask=column < in_features, other=0.0)
        if IS_INT4:
            far = column + bytes_per_row
            high_x = tl.load(x + row * in_features + far, mask=far < in_features, other=0.0)
            group = feature[:, None] * groups + (column // GROUP)[None, :]
            far_group = feature[:, None] * groups + (far // GROUP)[None, :]
            is_far = is_feature[:, None] & (far // GROUP < groups)[None, :]
            low_scale = tl.load(scales + group, mask=is_byte, other=0.0)
            high_scale = tl.load(scales + far_group, mask=is_far, other=0.0)
            low = (byte & 15).to(tl.float32) - 8.0
            high = (byte >> 4).to(tl.float32) - 8.0
            sums += low * low_scale * low_x.to(tl.float32)[None, :]
            sums += high * high_scale * high_x.to(tl.float32)[None, :]
        else:
            sums += byte.to(tl.float32) * low_x.to(tl.float32)[None, :]
    total = tl.sum(sums, 1)
    if not IS_INT4:
        total = total * tl.load(scales + feature, mask=is_feature, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + feature, mask=is_feature, other=0.0).to(tl.float32)
    target = out + row * out_features + feature
    tl.store(target, total.to(out.dtype.element_ty), mask=is_feature)


@triton.jit
def _dense(
    whole,
    scales,
    out,
    in_features,
    bytes_per_row,
    groups,
    IS_INT4: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    feature = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    byte = tl.load(whole + feature * bytes_per_row + column, mask=column < bytes_per_row, other=0)
    target = out + feature * in_features
    dtype = out.dtype.element_ty
    is_low = (column < bytes_per_row) & (column < in_features)
    if IS_INT4:
        far = column + bytes_per_row
        is_far = (column < bytes_per_row) & (far < in_features)
        group = scales + feature * groups
        low_scale = tl.load(group + column // GROUP, mask=is_low, other=0.0)
        high_scale = tl.load(group + far // GROUP, mask=is_far, other=0.0)
        low = ((byte & 15).to(tl.float32) - 8.0) * low_scale
        high = ((byte >> 4).to(tl.float32) - 8.0) * high_scale
        tl.store(target + column, low.to(dtype), mask=is_low)
        tl.store(target + far, high.to(dtype), mask=is_far)
    else:
        value = byte.to(tl.float32) * tl.load(scales + feature)
        tl.store(target + column, value.to(dtype), mask=is_low)
