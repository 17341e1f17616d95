"""An attention plan as a few tables on the device, made once per step and read in every layer.

Triton kernels read segments through addresses, so one launch covers all segments of a step. Only
numpy runs here: no Python per token, and tables travel together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, Write

Ints = NDArray[np.int64]

NARROW, WIDE = 16, 64
"""Rows times grouped query heads of a tile: 16 is the least that tensor cores multiply."""

_MIN_SPLIT_KEYS = 256
_SPLIT_STEP = 64  # splits begin at whole blocks of keys
_PROGRAMS = 1024  # enough for the largest devices, a few on each multiprocessor


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Work of one launch.

    Attributes:
        block: Lanes of a tile: rows times grouped query heads, at most.
        table: `(tiles, 9)` int64: address of k, address of v, capacity, start, first entry,
            entries, first key, last key, first slot among the partial results.
    """

    block: int
    table: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """All tiles of a step for one number of query heads per KV head, and how to merge them.

    Attributes:
        launches: Tiles by block size; none is empty.
        slots: Partial results of all launches together.
        merge_from: Slots sorted by the row they belong to: `(slots,)` int64.
        merge_at: Where each row begins in `merge_from`: `(num_rows + 1,)` int64.
    """

    launches: list[Tiles]
    slots: int
    merge_from: Tensor
    merge_at: Tensor


@dataclass(slots=True, eq=False)
class FlatPlan:
    """A plan flattened; `flatten` makes it.

    Attributes:
        writes: By row of the batch, `(num_rows, 5)` int64: address of k, address of v,
            capacity, key, rotary position.
        entries: Rows that look, part after part, `(entries, 4)` int64: row, rotary position,
            limit, where its set of hidden keys begins in `hides`, -1 for none.
        hides: Sets of hidden keys, one behind the other, a byte a key: `(bytes,)` uint8; empty:
            there are none.
    """

    num_rows: int
    kv_heads: int
    writes: Tensor
    entries: Tensor
    hides: Tensor
    _parts: Ints
    _counts: Ints
    _rows: Ints
    _limits: Ints
    _work: dict[int, Work] = field(default_factory=dict)

    def work(self, group: int) -> Work:
        """Tiles for `group` query heads per KV head; made at the first call."""
        if group not in self._work:
            self._work[group] = self._cut(group)
        return self._work[group]

    def _cut(self, group: int) -> Work:
        table, is_narrow = self._tiles(group)
        slots_of_row, row_starts = self._merge_lists(table)
        few, many, merge_from, merge_at = _to_device(
            [table[is_narrow], table[~is_narrow], slots_of_row, row_starts], self.entries.device
        )
        both = [Tiles(_lanes(NARROW, group), few), Tiles(_lanes(WIDE, group), many)]
        launches = [tiles for tiles in both if len(tiles.table)]
        return Work(launches, len(slots_of_row), merge_from, merge_at)

    def _tiles(self, group: int) -> tuple[Ints, NDArray[np.bool_]]:
        """The table of all tiles, see `Tiles`, and which of them are narrow."""
        is_narrow = self._counts * group <= NARROW
        per_tile = np.where(is_narrow, max(1, NARROW // group), max(1, WIDE // group))
        part, nth = _spread(-(-self._counts // per_tile))
        ends = self._counts.cumsum()
        first = (ends - self._counts)[part] + nth * per_tile[part]
        sizes = np.minimum(per_tile[part], ends[part] - first)
        keys = np.maximum.reduceat(self._limits, first)  # tiles cover the entries without holes
        step = _split_keys(int(keys.sum()) * self.kv_heads)
        tile, nth = _spread(-(-keys // step))
        first_key = nth * step
        last_key = np.minimum(keys[tile], first_key + step)
        slot = sizes[tile].cumsum() - sizes[tile]
        columns = [first[tile], sizes[tile], first_key, last_key, slot]
        table = np.column_stack([self._parts[part[tile]], *columns])
        return table, is_narrow[part[tile]]

    def _merge_lists(self, table: Ints) -> tuple[Ints, Ints]:
        """Slots sorted by row, and where each row begins among them."""
        first, sizes = table[:, 4], table[:, 5]
        tile, nth = _spread(sizes)
        rows = self._rows[first[tile] + nth]
        order = np.argsort(rows, kind="stable")
        return order, np.searchsorted(rows[order], np.arange(self.num_rows + 1))


def flatten(plan: AttentionPlan) -> FlatPlan:
    """The tables of a plan, on the device of its segments."""
    parts = np.array([_segment(part) for part in plan.parts], dtype=np.int64)
    counts = np.array([len(part.rows) for part in plan.parts], dtype=np.int64)
    rows, rel, limit = (
        torch.cat([getattr(part, name) for part in plan.parts]).numpy()
        for name in ("rows", "rel", "limit")
    )
    k = plan.parts[0].k
    hidden, hides = _hidden(plan.parts)
    writes, entries = _to_device(
        [_write_table(plan), np.column_stack([rows, rel, limit, hidden])], k.device
    )
    hides = hides.to(k.device, non_blocking=True)
    return FlatPlan(plan.num_rows, k.shape[1], writes, entries, hides, parts, counts, rows, limit)


def _hidden(parts: Sequence[Part]) -> tuple[Ints, Tensor]:
    """Where each entry's set of hidden keys begins, -1 for none, and the sets as bytes."""
    places, sets, used = [], [torch.zeros(0, dtype=torch.bool)], 0
    for part in parts:
        if part.hides is None or part.hidden is None:
            places.append(np.full(len(part.rows), -1))
            continue
        hidden = part.hidden.numpy()
        places.append(np.where(hidden < 0, -1, used + hidden * part.hides.shape[1]))
        sets.append(part.hides.flatten())
        used += part.hides.numel()
    return np.concatenate(places), torch.cat(sets).to(torch.uint8)


def _write_table(plan: AttentionPlan) -> Ints:
    table = np.zeros((plan.num_rows, 5), dtype=np.int64)
    each = [(*_segment(write)[:3], write.offset, write.rel, write.row) for write in plan.writes]
    which, nth = _spread(np.array([write.n for write in plan.writes], dtype=np.int64))
    columns = np.array(each, dtype=np.int64).reshape(-1, 6)[which]
    columns[:, 3:] += nth[:, None]
    table[columns[:, 5]] = columns[:, :5]
    return table


def _segment(held: Part | Write) -> tuple[int, int, int, int]:
    """Address of k, address of v, capacity, start."""
    k, v = held.k, held.v
    assert all(one.is_contiguous() for one in (k, v)), "kernels compute the strides of segments"
    addresses = k.data_ptr(), v.data_ptr()
    assert not any(at % 16 for at in addresses), "kernels load 16 bytes at once"
    return *addresses, k.shape[2], held.start if isinstance(held, Part) else 0


def _spread(counts: Ints) -> tuple[Ints, Ints]:
    """`[2, 3]` becomes `[0, 0, 1, 1, 1]` and `[0, 1, 0, 1, 2]`."""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - (counts.cumsum() - counts)[which]


def _split_keys(key_heads: int) -> int:
    """Keys of a tile at most: long segments with few rows are split until the device is busy."""
    wanted = max(_MIN_SPLIT_KEYS, key_heads // _PROGRAMS)
    return -(-wanted // _SPLIT_STEP) * _SPLIT_STEP


def _lanes(block: int, group: int) -> int:
    """`block`, or more where one row has more query heads than that; a power of two."""
    return max(block, 1 << (group - 1).bit_length())


def _to_device(arrays: Sequence[Ints], device: torch.device) -> list[Tensor]:
    """All arrays in one transfer."""
    flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)
    pieces = torch.split(flat, [array.size for array in arrays])
    return [piece.view(array.shape) for piece, array in zip(pieces, arrays, strict=True)]
