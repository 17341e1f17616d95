"""What a sequence holds: reserving, growing, joining, truncating, forking, giving back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.llm.kv.segments import KVShape, OutOfKV, SegmentPool, SequenceKV
from tests.llm.kv.model import SHAPE, Client, ids, make_pool, run


def decode(client: Client, n: int, *, join: bool = True) -> int:
    """Append and compute `n` tokens one by one; bytes copied by joining."""
    copied = 0
    for token in range(n):
        client.tokens.append(token % 50)
        client.compute(1)
        copied += client.kv.join() if join else 0
    return copied


def sizes(client: Client) -> list[tuple[int, int, int]]:
    return [(held.base, held.segment.start, held.length) for held in client.kv.entries]


def test_a_token_costs_keys_and_values_of_all_layers() -> None:
    shape = KVShape(16, 8, 64, torch.bfloat16, torch.device("cpu"))
    assert shape.bytes_per_token == 32 * 1024


@pytest.mark.parametrize("budget", [0, SHAPE.bytes_per_token - 1, -5])
def test_a_budget_below_one_token_is_refused(budget: int) -> None:
    with pytest.raises(ConfigError, match=f"at least one token .* got {budget} bytes"):
        SegmentPool(SHAPE, budget)


def test_min_match_below_1_is_refused() -> None:
    with pytest.raises(ConfigError, match="min_match"):
        SegmentPool(SHAPE, 10**6, min_match=0)


def test_a_budget_of_one_token_holds_one_token() -> None:
    pool = make_pool(1)
    assert pool.max_tokens == 1
    client = Client(pool, [5])
    client.compute(room=64)
    client.read()
    client.tokens.append(6)
    with pytest.raises(OutOfKV):
        client.compute()
    pool.check([client.kv])


def test_a_prompt_in_slices_is_one_segment_with_room_for_its_completion() -> None:
    pool = make_pool(500)
    client = Client(pool, list(range(100)), piece_tokens=16)
    for _ in range(4):
        client.compute(30, room=10)
    assert sizes(client) == [(0, 0, 110)]
    decode(client, 11, join=False)
    assert sizes(client) == [(0, 0, 110), (0, 110, 16)]
    client.read()


def test_behind_a_shared_prefix_a_run_begins_and_pieces_continue_it() -> None:
    pool = make_pool(500)
    first = Client(pool, list(range(40)))
    first.compute(room=0)
    second = Client(pool, [*range(25), *range(200, 220)], piece_tokens=8)
    assert second.match() == 25
    second.compute(room=0)
    decode(second, 17, join=False)
    assert sizes(second) == [(0, 0, 25), (25, 0, 20), (25, 20, 8), (25, 28, 8), (25, 36, 8)]
    second.read()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 300), st.integers(1, 5), st.integers(2, 5))
def test_joining_changes_nothing_that_is_seen(n: int, piece: int, count: int) -> None:
    pool = make_pool(2000)
    client = Client(pool, list(range(10)), piece_tokens=piece, join_pieces=count)
    client.compute(room=0)
    decode(client, n)
    client.read()
    pool.check([client.kv])
    full = [h.length for h in client.kv.entries[1:] if h.end <= client.kv.num_tokens]
    assert full == sorted(full, reverse=True)
    assert all(full.count(size) < count for size in full)


def test_joining_copies_n_log_n_and_leaves_few_pieces() -> None:
    pool = make_pool(3000)
    client = Client(pool, [0], piece_tokens=4, join_pieces=4)
    client.compute(room=0)
    copied = decode(client, 1024)
    rows = 48 * 16 + 12 * 64 + 3 * 256 + 1024  # every fourth goes into the next size at once
    assert copied == rows * pool.shape.bytes_per_token
    assert sizes(client) == [(0, 0, 1), (0, 1, 1024)]


def test_late_joining_copies_each_row_once() -> None:
    pool = make_pool(3000)
    client = Client(pool, [0], piece_tokens=4, join_pieces=4)
    client.compute(room=0)
    decode(client, 256 + 16 + 3, join=False)
    assert client.kv.join() == (256 + 16) * pool.shape.bytes_per_token
    assert sizes(client) == [(0, 0, 1), (0, 1, 256), (0, 257, 16), (0, 273, 4)]
    client.read()


def test_pieces_that_others_hold_are_not_joined() -> None:
    pool = make_pool(500)
    client = Client(pool, [0], piece_tokens=4, join_pieces=2)
    client.compute(room=0)
    decode(client, 8, join=False)
    fork = client.fork()
    assert client.kv.join() == 0
    fork.kv.release(keep=False)
    assert client.kv.join() == 8 * pool.shape.bytes_per_token


def test_pieces_that_others_can_find_are_not_joined() -> None:
    pool = make_pool(500)
    client = Client(pool, [0], piece_tokens=4, join_pieces=2)
    client.compute(room=0)
    decode(client, 8, join=False)
    client.fork().kv.release(keep=True)
    assert client.kv.join() == 0
    pool.check([client.kv])


def test_without_room_for_the_copy_joining_waits() -> None:
    pool = make_pool(17)
    client = Client(pool, [0], piece_tokens=4, join_pieces=2)
    client.compute(room=0)
    assert decode(client, 16) == 8 * pool.shape.bytes_per_token
    assert sizes(client) == [(0, 0, 1), (0, 1, 8), (0, 9, 4), (0, 13, 4)]
    client.read()


def test_a_fork_sees_the_rows_so_far_and_writes_elsewhere() -> None:
    pool = make_pool(500)
    client = Client(pool, list(range(20)), piece_tokens=8)
    client.compute(room=8)
    decode(client, 3)
    used = pool.used_bytes
    forks = [client.fork(), client.fork()]
    assert pool.used_bytes == used
    decode(client, 5)
    assert sizes(client) == [(0, 0, 28)], "the original writes on in its tail"
    for which, fork in enumerate(forks):
        fork.tokens.append(70 + which)
        fork.compute()
        decode(fork, 4)
        assert sizes(fork)[0] == (0, 0, 23)
    for one in (client, *forks):
        one.read()
        pool.check([c.kv for c in (client, *forks)])
    for one in (client, *forks):
        one.kv.release()
    assert pool.tree.match(ids(*forks[1].tokens)).length == 28
    assert pool.tree.match(ids(*client.tokens)).length == 28


def test_truncated_rows_that_nobody_else_has_are_written_over() -> None:
    pool = make_pool(500)
    client = Client(pool, list(range(20)), piece_tokens=32)
    client.compute(room=0)
    decode(client, 10)
    used = pool.used_bytes
    client.truncate(24)
    client.tokens += [90, 91]
    client.compute()
    client.read()
    assert pool.used_bytes == used
    assert len(client.kv.entries) == 2


def test_truncated_rows_that_a_fork_has_stay() -> None:
    pool = make_pool(500)
    client = Client(pool, list(range(20)), piece_tokens=32)
    client.compute(room=0)
    decode(client, 10)
    fork = client.fork()
    client.truncate(24)
    client.tokens += [90, 91]
    client.compute()
    client.read()
    fork.read()
    assert len(client.kv.entries) == 3


def test_truncating_into_a_promised_prompt_takes_the_promise_back() -> None:
    pool = make_pool(500)
    client = Client(pool, list(range(40)))
    client.reserve(20, room=0)
    client.write(20)
    client.truncate(10)
    pool.check([client.kv])
    assert pool.tree.match(ids(*range(40)))[1:] == (20, 0)
    client.tokens += [80] * 5
    client.compute()
    client.read()


def test_truncating_to_nothing_holds_nothing() -> None:
    pool = make_pool(100)
    client = Client(pool, list(range(40)))
    client.compute()
    client.truncate(0)
    assert not client.kv.entries
    assert pool.used_bytes == 0


def test_rows_that_failed_to_be_computed_are_never_shared() -> None:
    pool = make_pool(100)
    client = Client(pool, list(range(40)))
    client.reserve(40, room=0)
    for segment, *_ in client.kv.write_ranges(0, 40):
        segment.k.fill_(torch.nan)  # the step wrote, then raised
    assert pool.tree.match(ids(*range(40)))[1:] == (0, 40)
    client.compute()
    client.read()


def test_release_without_keep_leaves_nothing_of_its_own() -> None:
    pool = make_pool(300)
    kept = Client(pool, list(range(30)))
    kept.compute(room=0)
    kept.kv.release()
    poisoned = Client(pool, [*range(30), *range(100, 130)])
    poisoned.match()
    poisoned.compute(room=0)
    poisoned.kv.release(keep=False)
    pool.check([])
    assert pool.tree.match(poisoned.array).length == 30
    assert pool.used_bytes == 30 * pool.shape.bytes_per_token


def test_unused_room_is_given_back_when_it_is_more_than_half() -> None:
    pool = make_pool(300)
    for computed, stays in ((49, 49), (50, 100)):
        client = Client(pool, [computed] * 100)
        client.reserve(computed, room=0)
        client.write(computed)
        used = pool.used_bytes
        client.kv.release()
        assert pool.used_bytes - used == (stays - 100) * pool.shape.bytes_per_token
    pool.check([])


def test_a_sequence_alone_fills_the_pool_to_the_last_token() -> None:
    pool = make_pool(100)
    first = Client(pool, list(range(80)))
    first.compute(room=0)
    first.kv.release()
    client = Client(pool, [*range(30), *range(200, 210)], piece_tokens=64)
    assert client.match() == 30, "pins a segment of 80"
    client.compute(room=64)
    decode(client, 60, join=False)
    assert client.kv.num_tokens == 100
    client.read()
    pool.check([client.kv])
    client.tokens.append(1)
    with pytest.raises(OutOfKV):
        client.compute()


def test_giving_back_rows_frees_what_was_computed_behind_them() -> None:
    pool = make_pool(100)
    for tokens in (list(range(60)), [*range(60), *range(80, 90)]):
        first = Client(pool, tokens)
        first.match()
        first.compute(room=0)
        first.kv.release()
    client = Client(pool, [*range(30), *range(200, 270)])
    assert client.match() == 30
    client.compute(room=0)
    client.read()
    pool.check([client.kv])
    assert pool.tree.match(ids(*range(60), *range(80, 90))).length == 30


def test_less_room_than_asked_is_used_if_the_known_tokens_fit() -> None:
    pool = make_pool(50)
    client = Client(pool, list(range(40)))
    client.compute(10, room=64)
    assert sizes(client) == [(0, 0, 50)]
    other = Client(pool, [9, 9])
    with pytest.raises(OutOfKV):
        other.compute(1, room=64)


def test_a_prompt_that_does_not_fit_is_refused_at_its_first_slice() -> None:
    pool = make_pool(50)
    client = Client(pool, list(range(60)))
    with pytest.raises(OutOfKV):
        client.reserve(10, room=0)
    pool.check([client.kv])


def test_writing_into_rows_of_another_sequence_is_refused() -> None:
    pool = make_pool(50)
    client = Client(pool, list(range(20)))
    client.compute(room=0)
    fork = client.fork()
    with pytest.raises(AssertionError, match="another sequence"):
        fork.kv.write_ranges(5, 10)


def test_pools_of_one_process_do_not_know_each_other() -> None:
    pools = [make_pool(60), make_pool(60)]
    for pool, first in zip(pools, (1, 2), strict=True):
        client = Client(pool, [first] * 50)
        client.compute(room=0)
        client.kv.release()
    assert [pool.tree.match(ids(*[1] * 50)).length for pool in pools] == [50, 0]
    assert [pool.tree.match(ids(*[2] * 50)).length for pool in pools] == [0, 50]
    assert pools[0].used_bytes == pools[1].used_bytes == 50 * SHAPE.bytes_per_token


def test_check_finds_damage() -> None:
    pool = make_pool(100)
    client = Client(pool, list(range(20)))
    client.compute(room=0)
    client.kv.truncate(19)
    segment = client.kv.entries[0].segment
    for name, value in (("refs", 2), ("filled", 10), ("filled", 99), ("frozen", 3)):
        before = getattr(segment, name)
        setattr(segment, name, value)
        with pytest.raises(AssertionError):
            pool.check([client.kv])
        setattr(segment, name, before)
    segment.node.offset = 3
    with pytest.raises((AssertionError, KeyError)):
        pool.check()
    segment.node.offset = 0
    pool.used_bytes += 1
    with pytest.raises(AssertionError, match="bytes used"):
        pool.check()


def test_attention_over_parts_equals_one_contiguous_run() -> None:
    """The entries, read as kernels read them, are plain causal attention."""
    from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable, Write
    from chunkwise.llm.kernels.reference import ReferenceKernels

    shape = KVShape(1, 2, 8, torch.float32, torch.device("cpu"))
    pool = SegmentPool(shape, 10**6, min_match=1)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(90, 2, 8, generator=generator) for _ in range(3))
    angles = torch.arange(90)[:, None] / 100 ** (torch.arange(4) / 4)
    rotary, kernels = RotaryTable(angles.cos(), angles.sin()), ReferenceKernels()
    tokens = np.arange(90, dtype=np.int32)

    def step(kv: SequenceKV, end: int, hint: int) -> torch.Tensor:
        first, row, writes, parts = kv.num_tokens, 0, [], []
        kv.reserve(end, tokens[:end] if not hint else tokens[:hint], hint=hint)
        for segment, offset, n, rel in kv.write_ranges(first, end):
            writes.append(Write(segment.k, segment.v, row, n, offset, rel))
            row += n
        for segment, base, length, _ in kv.parts(end):
            rel = torch.arange(first, end) - base
            limit = (rel - segment.start + 1).clamp_max(length)
            at = torch.arange(end - first)[limit > 0]
            parts.append(
                Part(segment.k, segment.v, segment.start, at, rel[limit > 0], limit[limit > 0])
            )
        plan = AttentionPlan(end - first, parts, writes)
        kernels.store(k[first:end], v[first:end], plan, 0, rotary)
        kv.mark_computed(end)
        return kernels.attend(q[first:end], plan, 0, rotary, scale=0.3)

    whole = step(SequenceKV(pool), 90, 0)
    first = SequenceKV(pool, piece_tokens=4, join_pieces=2)
    step(first, 20, 30)
    step(first, 30, 0)
    first.release()
    second = SequenceKV(pool, piece_tokens=4, join_pieces=2)
    assert second.match(tokens[:25]) == 25
    found = [step(second, 33, 40), step(second, 41, 0)]
    for end in range(42, 71):
        found.append(step(second, end, 0))
        second.join()
    torch.testing.assert_close(torch.cat(found), whole[25:70], atol=2e-5, rtol=2e-5)


def failing(*_: object, **__: object) -> None:
    raise MemoryError


def test_joining_without_memory_for_the_copy_leaves_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = make_pool(300)
    client = Client(pool, [1], piece_tokens=4)
    decode(client, 40, join=False)
    before = sizes(client)
    monkeypatch.setattr(torch, "cat", failing)
    with pytest.raises(MemoryError):
        client.kv.join()
    monkeypatch.undo()
    pool.check([client.kv])
    assert sizes(client) == before
    assert client.kv.join() > 0
    client.read()


def test_trimming_without_memory_for_the_copy_leaves_the_books_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = make_pool(300)
    client = Client(pool, [7] * 100)
    client.reserve(20, room=0)
    client.write(20)
    monkeypatch.setattr(torch.Tensor, "clone", failing)
    with pytest.raises(MemoryError):
        client.kv.release()
    monkeypatch.undo()
    assert client.kv.entries == []
    pool.check([])
    assert run(pool, [7] * 100) == 20
