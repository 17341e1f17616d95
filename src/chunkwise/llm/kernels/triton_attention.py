"""Attention over segments, and storing into them, in Triton.

Segments are read through their addresses (`FlatPlan`), so a layer costs two or three launches
whatever the number of segments. Each program takes some rows of one segment with all query heads
of one KV head stacked, walks along a run of keys with a running softmax in float32, and leaves a
partial result with its log-sum-exp; a second kernel merges the partial results of each row.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from chunkwise.llm.kernels.cuda_plan import FlatPlan, Tiles
from chunkwise.llm.kernels.ops import RotaryTable


def attend(
    q: Tensor, plan: FlatPlan, layer: int, rotary: RotaryTable, scale: float, window: int
) -> Tensor:
    """See `Kernels.attend`."""
    rows, heads, size = q.shape
    work = plan.work(heads // plan.kv_heads)
    partial = q.new_empty((work.slots, heads, size), dtype=torch.float32)
    lse = q.new_empty((work.slots, heads), dtype=torch.float32)
    out = q.new_empty((rows, heads, size))
    with torch.cuda.device_of(q):
        for tiles in work.launches:
            _attend_tiles(q, plan, tiles, layer, rotary, partial, lse, scale, window)
        block = triton.next_power_of_2(size)
        _merge[(rows, heads)](
            partial, lse, work.merge_from, work.merge_at, out, heads, size, block, num_warps=1
        )
    return out


def store(k: Tensor, v: Tensor, plan: FlatPlan, layer: int, rotary: RotaryTable) -> None:
    """See `Kernels.store`."""
    rows, heads, size = k.shape
    block = triton.next_power_of_2(size // 2)
    with torch.cuda.device_of(k):
        _store[(rows, heads)](
            k,
            v,
            plan.writes,
            rotary.cos,
            rotary.sin,
            layer,
            k.stride(0),
            v.stride(0),
            heads,
            size // 2,
            block,
            num_warps=1,
        )


def _attend_tiles(
    q: Tensor,
    plan: FlatPlan,
    tiles: Tiles,
    layer: int,
    rotary: RotaryTable,
    partial: Tensor,
    lse: Tensor,
    scale: float,
    window: int,
) -> None:
    heads, size = q.shape[1:]
    _segment_attention[(len(tiles.table), plan.kv_heads)](
        q,
        tiles.table,
        plan.entries,
        plan.hides,
        rotary.cos,
        rotary.sin,
        partial,
        lse,
        layer,
        q.stride(0),
        scale,
        plan.kv_heads,
        heads // plan.kv_heads,
        size // 2,
        window,
        len(plan.hides) > 0,
        **launch_options(tiles.block, size, q.dtype),
    )


def launch_options(lanes: int, size: int, dtype: torch.dtype) -> dict[str, int]:
    """Block sizes of `_segment_attention`; they fit the 99 KiB that every device since Ampere
    lets one program share."""
    is_float32 = dtype == torch.float32
    return {
        "BLOCK_M": lanes,
        "BLOCK_N": 64 // (2 if size > 128 else 1) // (2 if is_float32 else 1),
        "BLOCK_HALF": max(16, triton.next_power_of_2(size // 2)),
        "num_warps": 4,
        "num_stages": 1 if is_float32 else 2,
    }


@triton.jit(do_not_specialize=["layer"])
def _segment_attention(
    q,  # (rows, HKV * GROUP, 2 * HALF)
    tiles,  # (tiles, 9) int64, see `Tiles`
    entries,  # (entries, 4) int64, see `FlatPlan`
    hides,  # bytes, see `FlatPlan`
    cos,  # (positions, HALF)
    sin,
    partial,  # (slots, HKV * GROUP, 2 * HALF)
    lse,  # (slots, HKV * GROUP)
    layer,
    q_stride,
    scale,
    HKV: tl.constexpr,
    GROUP: tl.constexpr,
    HALF: tl.constexpr,
    WINDOW: tl.constexpr,
    HIDES: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    tile = tiles + tl.program_id(0) * 9
    head = tl.program_id(1)
    capacity = tl.load(tile + 2)
    start = tl.load(tile + 3)
    first = tl.load(tile + 4)
    count = tl.load(tile + 5)
    first_key = tl.load(tile + 6)
    last_key = tl.load(tile + 7)
    slot = tl.load(tile + 8)
    dtype = q.dtype.element_ty
    at = (layer * HKV + head) * capacity * (2 * HALF)
    keys = tl.multiple_of(tl.load(tile).to(tl.pointer_type(dtype)), 16) + at
    values = tl.multiple_of(tl.load(tile + 1).to(tl.pointer_type(dtype)), 16) + at

    # Lane m is query head m % GROUP of row m // GROUP of the tile.
    lane = tl.arange(0, BLOCK_M)
    entry = lane // GROUP
    is_lane = entry < count
    row = tl.load(entries + (first + entry) * 4, mask=is_lane, other=0)
    rel = tl.load(entries + (first + entry) * 4 + 1, mask=is_lane, other=0)
    limit = tl.load(entries + (first + entry) * 4 + 2, mask=is_lane, other=0)
    hidden = tl.load(entries + (first + entry) * 4 + 3, mask=is_lane, other=-1)
    query_head = head * GROUP + lane % GROUP

    # Two dot products over half a head each: the halves turn together.
    half = tl.arange(0, BLOCK_HALF)
    is_half = half < HALF
    is_q = is_lane[:, None] & is_half[None, :]
    q_at = q + (row * q_stride + query_head * (2 * HALF))[:, None] + half[None, :]
    low = tl.load(q_at, mask=is_q, other=0.0).to(tl.float32)
    high = tl.load(q_at + HALF, mask=is_q, other=0.0).to(tl.float32)
    turn = rel[:, None] * HALF + half[None, :]
    c = tl.load(cos + turn, mask=is_q, other=0.0)
    s = tl.load(sin + turn, mask=is_q, other=0.0)
    q_low = (low * c - high * s).to(dtype)
    q_high = (high * c + low * s).to(dtype)

    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.full([BLOCK_M], 0.0, tl.float32)
    out_low = tl.full([BLOCK_M, BLOCK_HALF], 0.0, tl.float32)
    out_high = tl.full([BLOCK_M, BLOCK_HALF], 0.0, tl.float32)
    if WINDOW > 0:  # keys before the window of every row of the tile
        oldest = tl.where(is_lane, rel - start - WINDOW + 1, last_key)
        first_key = tl.maximum(first_key, tl.min(oldest, 0))
    for begin in range(first_key, last_key, BLOCK_N):
        key = begin + tl.arange(0, BLOCK_N)
        is_key = (key < last_key)[:, None] & is_half[None, :]  # beyond may be NaN
        kv_at = key[:, None] * (2 * HALF) + half[None, :]
        k_low = tl.load(keys + kv_at, mask=is_key, other=0.0)
        k_high = tl.load(keys + kv_at + HALF, mask=is_key, other=0.0)
        scores = tl.dot(q_low, tl.trans(k_low), input_precision="ieee")
        scores += tl.dot(q_high, tl.trans(k_high), input_precision="ieee")
        seen = (key[None, :] < limit[:, None]) & (key < last_key)[None, :]
        if WINDOW > 0:
            seen = seen & (rel[:, None] - start - key[None, :] < WINDOW)
        if HIDES:
            is_hideable = (hidden >= 0)[:, None] & (key < last_key)[None, :]
            hide_at = hides + hidden[:, None] + key[None, :]
            seen = seen & (tl.load(hide_at, mask=is_hideable, other=0) == 0)
        scores = tl.where(seen, scores * scale, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)  # a row that saw no key yet
        weights = tl.exp(scores - safe[:, None])
        fade = tl.exp(top - safe)
        total = total * fade + tl.sum(weights, 1)
        weights = weights.to(dtype)
        v_low = tl.load(values + kv_at, mask=is_key, other=0.0)
        v_high = tl.load(values + kv_at + HALF, mask=is_key, other=0.0)
        out_low = out_low * fade[:, None] + tl.dot(weights, v_low, input_precision="ieee")
        out_high = out_high * fade[:, None] + tl.dot(weights, v_high, input_precision="ieee")
        top = new_top

    some = tl.where(total > 0, total, 1.0)  # log-sum-exp of a row that sees no key: -inf
    target = (slot + entry) * (HKV * GROUP) + query_head
    tl.store(lse + target, top + tl.log(some), mask=is_lane)
    out_at = partial + target[:, None] * (2 * HALF) + half[None, :]
    tl.store(out_at, out_low / some[:, None], mask=is_q)
    tl.store(out_at + HALF, out_high / some[:, None], mask=is_q)


@triton.jit
def _merge(
    partial,  # (slots, HEADS, SIZE)
    lse,  # (slots, HEADS)
    merge_from,
    merge_at,
    out,  # (rows, HEADS, SIZE)
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    channel = tl.arange(0, BLOCK)
    is_channel = channel < SIZE
    top = tl.full([1], float("-inf"), tl.float32)
    total = tl.full([1], 0.0, tl.float32)
    sums = tl.full([BLOCK], 0.0, tl.float32)
    for i in range(tl.load(merge_at + row), tl.load(merge_at + row + 1)):
        at = tl.load(merge_from + i) * HEADS + head
        one = tl.load(lse + at)
        new_top = tl.maximum(top, one)
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        fade = tl.exp(top - safe)
        weight = tl.exp(one - safe)
        total = total * fade + weight
        sums = sums * fade + weight * tl.load(
            partial + at * SIZE + channel, mask=is_channel, other=0.0
        )
        top = new_top
    some = tl.where(total > 0, total, 1.0)
    at = (row * HEADS + head) * SIZE + channel
    tl.store(out + at, (sums / some).to(out.dtype.element_ty), mask=is_channel)


@triton.jit(do_not_specialize=["layer"])
def _store(
    k,  # (rows, HEADS, 2 * HALF)
    v,
    writes,  # (rows, 5) int64, see `FlatPlan`
    cos,  # (positions, HALF)
    sin,
    layer,
    k_stride,
    v_stride,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    write = writes + row * 5
    dtype = k.dtype.element_ty
    keys = tl.load(write).to(tl.pointer_type(dtype))
    values = tl.load(write + 1).to(tl.pointer_type(dtype))
    capacity = tl.load(write + 2)
    key = tl.load(write + 3)
    rel = tl.load(write + 4)
    half = tl.arange(0, BLOCK)
    is_half = half < HALF
    k_at = k + row * k_stride + head * (2 * HALF) + half
    v_at = v + row * v_stride + head * (2 * HALF) + half
    c = tl.load(cos + rel * HALF + half, mask=is_half)
    s = tl.load(sin + rel * HALF + half, mask=is_half)
    low = tl.load(k_at, mask=is_half).to(tl.float32)
    high = tl.load(k_at + HALF, mask=is_half).to(tl.float32)
    target = ((layer * HEADS + head) * capacity + key) * (2 * HALF) + half
    tl.store(keys + target, (low * c - high * s).to(dtype), mask=is_half)
    tl.store(keys + target + HALF, (high * c + low * s).to(dtype), mask=is_half)
    tl.store(values + target, tl.load(v_at, mask=is_half), mask=is_half)
    tl.store(values + target + HALF, tl.load(v_at + HALF, mask=is_half), mask=is_half)
