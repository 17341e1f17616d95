"""Plans as tables: every row meets every key it may see exactly once, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.llm.kernels.cuda_plan import WIDE, flatten
from chunkwise.llm.kernels.ops import AttentionPlan, Part, Write
from chunkwise.llm.kernels.reference import visible


@st.composite
def plans(draw: st.DrawFn) -> AttentionPlan:
    """Segments that some rows look at; the first is seen by all rows and takes what they write."""
    num_rows = draw(st.integers(1, 150))
    rng, parts = np.random.default_rng(draw(st.integers(0, 99))), []
    for share in [1.0, *draw(st.lists(st.sampled_from([0.02, 0.7]), max_size=3))]:
        capacity = draw(st.integers(num_rows if share == 1 else 1, 900))
        rows = np.union1d(np.flatnonzero(rng.random(num_rows) < share), [0])
        limit = rng.integers(1, capacity + 1, len(rows))
        columns = (torch.from_numpy(column) for column in (rows, 5 + limit, limit))
        k, v = torch.zeros(2, 1, 2, capacity, 8)
        sets = int(rng.integers(0, 3))
        hides = torch.from_numpy(rng.random((sets, capacity)) < 0.2) if sets else None
        hidden = torch.from_numpy(rng.integers(-1, sets, len(rows))) if sets else None
        parts.append(Part(k, v, 5, *columns, hides, hidden))
    cut = draw(st.integers(0, num_rows))
    k, v = parts[0].k, parts[0].v
    runs = [(0, cut, num_rows - cut, 9), (cut, num_rows - cut, 0, 30)]  # row, n, offset, rel
    writes = [Write(k, v, row, n, offset, rel) for row, n, offset, rel in runs if n]
    return AttentionPlan(num_rows, parts, writes)


@given(plan=plans(), group=st.sampled_from([1, 3, 4, 8, 20, 100]))
@settings(deadline=None, max_examples=60)
def test_every_row_meets_every_key_once(plan: AttentionPlan, group: int) -> None:
    flat = flatten(plan)
    work, entries, hides = flat.work(group), flat.entries.numpy(), flat.hides.tolist()
    seen: dict[tuple[int, int], list[int]] = {}
    row_of_slot = {}
    for tiles in work.launches:
        table = tiles.table.numpy()
        assert (table[:, 5] * group <= tiles.block).all()
        assert tiles.block <= max(WIDE, 2 * group)
        for k, _, _, start, first, count, first_key, last_key, slot in table.tolist():
            assert start == 5
            for i in range(count):
                row, rel, limit, hidden = entries[first + i].tolist()
                assert rel == 5 + limit
                keys = range(first_key, min(last_key, limit))
                shown = [key for key in keys if hidden < 0 or not hides[hidden + key]]
                seen.setdefault((row, k), []).extend(shown)
                assert slot + i not in row_of_slot
                row_of_slot[slot + i] = row
    for part in plan.parts:
        shown = visible(part, part.k.shape[2], 0)
        for row, keys in zip(part.rows.tolist(), shown, strict=True):
            found = sorted(seen.pop((row, part.k.data_ptr())))
            assert found == keys.nonzero()[:, 0].tolist()
    assert not seen
    check_merge_lists(plan.num_rows, work.slots, row_of_slot, work.merge_from, work.merge_at)


def check_merge_lists(
    num_rows: int,
    slots: int,
    row_of_slot: dict[int, int],
    merge_from: torch.Tensor,
    merge_at: torch.Tensor,
) -> None:
    assert sorted(row_of_slot) == list(range(slots)) == sorted(merge_from.tolist())
    for row in range(num_rows):
        merged = merge_from[merge_at[row] : merge_at[row + 1]].tolist()
        assert {row_of_slot[slot] for slot in merged} == {row}


@given(plan=plans())
@settings(deadline=None, max_examples=30)
def test_every_row_knows_where_it_is_written(plan: AttentionPlan) -> None:
    table, places = flatten(plan).writes.numpy(), {}
    for write in plan.writes:
        for i in range(write.n):
            capacity = write.k.shape[2]
            at = (write.k.data_ptr(), write.v.data_ptr(), capacity, write.offset + i, write.rel + i)
            places[write.row + i] = at
    assert [tuple(row) for row in table.tolist()] == [places[i] for i in range(plan.num_rows)]


def test_long_segments_with_few_rows_are_split_and_prompts_are_not() -> None:
    def slots_per_row(num_rows: int) -> float:
        k, v = torch.zeros(2, 1, 8, 8192, 16)
        rows = torch.arange(num_rows)
        plan = AttentionPlan(num_rows, [Part(k, v, 0, rows, rows + 8191, rows * 0 + 8192)], [])
        return flatten(plan).work(4).slots / num_rows

    assert slots_per_row(1) == 32
    assert slots_per_row(4096) == 1


def test_strided_segments_are_refused() -> None:
    k = torch.zeros(1, 2, 4, 16)[..., :8]
    one = torch.ones(1, dtype=torch.int64)
    with pytest.raises(AssertionError, match="strides of segments"):
        flatten(AttentionPlan(2, [Part(k, k, 0, one, one, one)], []))
