"""Exact look-up: what is found, what is promised, what is evicted first."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.llm.kv.prefix import common_length
from chunkwise.llm.kv.segments import OutOfKV, SegmentPool, SequenceKV
from tests.llm.kv.model import Client, ids, longest, make_pool, run


def lengths(pool: SegmentPool, tokens: list[int]) -> list[int]:
    """Rows taken of each segment on the way."""
    return [held.length for held in pool.tree.match(ids(*tokens)).entries]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
def test_common_length_is_the_place_of_the_first_difference(n: int, m: int, at: int) -> None:
    a, b = np.zeros(n, np.int32), np.zeros(m, np.int32)
    b[at:] = 1
    assert common_length(a, b) == min(n, m, at)


def test_an_empty_tree_and_an_empty_prompt_match_nothing() -> None:
    pool = make_pool(50)
    assert pool.tree.match(ids(1, 2, 3)) == ([], 0, 0)
    run(pool, [1, 2, 3])
    assert pool.tree.match(ids()) == ([], 0, 0)
    assert pool.tree.match(ids(9)) == ([], 0, 0)


def test_a_prompt_of_one_token_is_computed_and_found() -> None:
    pool = make_pool(50)
    assert run(pool, [7]) == 0
    assert run(pool, [7]) == 0, "the last token is always computed"
    assert run(pool, [7, 8]) == 1


def test_a_match_may_end_inside_a_segment() -> None:
    pool = make_pool(100)
    run(pool, list(range(40)))
    assert lengths(pool, list(range(25))) == [25]
    assert lengths(pool, [*range(25), 99, 98]) == [25]


def test_prompts_that_part_inside_a_segment_share_the_rows_before() -> None:
    pool = make_pool(100)
    run(pool, [*range(20), 50, 51, 52])
    assert run(pool, [*range(20), 60, 61, 62]) == 20
    assert run(pool, [*range(20), 60, 61, 70, 71]) == 22
    assert lengths(pool, [*range(20), 60, 61, 70, 71]) == [20, 2, 2]
    assert lengths(pool, [*range(20), 50, 51, 52]) == [23]
    assert pool.used_bytes == (23 + 3 + 2) * pool.shape.bytes_per_token


def test_the_same_tokens_behind_others_are_not_the_same() -> None:
    pool = make_pool(100)
    run(pool, [1, 5, 6, 7, 8])
    assert run(pool, [2, 5, 6, 7, 8]) == 0
    assert run(pool, [5, 6, 7, 8]) == 0


def test_what_a_running_sequence_computes_is_promised_and_then_there() -> None:
    pool = make_pool(100)
    prompt = list(range(30))
    first = Client(pool, prompt)
    first.reserve(8, room=4)
    assert pool.tree.match(ids(*prompt, 99)) == ([], 0, 30)
    first.compute(8)
    entries, length, promised = pool.tree.match(ids(*prompt, 99))
    assert (len(entries), length, promised) == (1, 8, 22)
    assert pool.tree.match(ids(*prompt[:20], 99))[1:] == (8, 12)
    assert pool.tree.match(ids(*prompt[:5], 99))[1:] == (5, 0)
    first.compute()
    assert pool.tree.match(ids(*prompt, 99))[1:] == (30, 0)
    second = Client(pool, [*prompt, 99])
    assert second.match() == 30
    second.compute()
    second.read()


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("computed", [0, 3, 20])
def test_a_promise_ends_with_its_writer(keep: bool, computed: int) -> None:
    pool = make_pool(100)
    first = Client(pool, list(range(30)))
    first.reserve(30, room=0)
    first.write(computed)
    first.kv.release(keep=keep)
    pool.check([])
    assert pool.tree.match(ids(*range(30)))[1:] == (computed if keep else 0, 0)
    assert pool.used_bytes == pool.shape.bytes_per_token * {0: 0, 3: 3, 20: 30}[computed] * keep


def test_equal_prompts_in_flight_at_once_stay_apart_and_are_both_right() -> None:
    pool = make_pool(200)
    prompt = list(range(30))
    both = [Client(pool, prompt), Client(pool, prompt)]
    for client in both:
        assert client.match() == 0
        client.reserve(10, room=0)
    both[0].compute(10)
    late = Client(pool, prompt)
    assert late.match() == 10
    late.compute(room=0)  # a twin: the first has promised what this computes
    pool.check([c.kv for c in [*both, late]])
    assert pool.tree.match(ids(*prompt)).length == 30
    both[0].kv.release()
    both[1].compute()
    for client in (both[1], late):
        client.read()
        client.kv.release()
    pool.check([])
    assert pool.tree.match(ids(*prompt)).length == 30


def test_pieces_that_the_tree_has_already_are_freed() -> None:
    pool = make_pool(300, min_match=4)
    clients = [Client(pool, list(range(30)), piece_tokens=8) for _ in range(2)]
    for client in clients:
        client.match()
        client.compute(room=0)
        for token in range(100, 116):
            client.tokens.append(token)
            client.compute()
    assert pool.used_bytes == (30 + 16 + 1 + 16) * pool.shape.bytes_per_token
    for client in clients:
        client.kv.release()
        pool.check()
    assert pool.used_bytes == (30 + 16) * pool.shape.bytes_per_token
    assert pool.tree.match(ids(*clients[0].tokens)).length == 46


def test_fewer_rows_than_min_match_are_not_taken() -> None:
    pool = make_pool(200, min_match=16)
    run(pool, [0, *range(100, 150)])
    assert run(pool, [0, *range(200, 250)]) == 0, "a common first token holds no long segment"
    assert run(pool, [0, *range(100, 114), 1, 2]) == 0
    assert run(pool, [0, *range(100, 115), 1, 2]) == 16
    assert run(pool, [0, *range(100, 150), *range(20)]) == 51
    assert lengths(pool, [0, *range(100, 150), *range(10)]) == [51]
    assert lengths(pool, [0, *range(100, 150), *range(20)]) == [51, 20]


def test_least_recently_used_leaves_go_first() -> None:
    pool = make_pool(40)
    for first in (1, 2, 3, 4):
        run(pool, [first] * 10)
    run(pool, [1] * 9 + [7])  # uses 1; its own last row goes in behind, and 2 goes out
    assert [pool.tree.match(ids(*[i] * 10)).length for i in (1, 2, 3, 4)] == [10, 0, 10, 10]
    run(pool, [5] * 5)
    run(pool, [6] * 10)
    assert [pool.tree.match(ids(*[i] * 10)).length for i in (1, 3, 4, 5, 6)] == [10, 0, 10, 5, 10]


def test_taking_and_leaving_both_count_as_use() -> None:
    pool = make_pool(40)
    for first in (1, 2, 3, 4):
        run_quick(pool, [first] * 10)
    taken = Client(pool, [1] * 11)
    taken.match()
    run_quick(pool, [2] * 5)  # finds 2 and adds one row, for which 3 goes
    taken.kv.release()
    run_quick(pool, [5] * 9)
    run_quick(pool, [6] * 10)  # 4 goes
    run_quick(pool, [7] * 11)  # 2 goes with its row behind, since 1 was left later
    assert [pool.tree.match(ids(*[i] * 10)).length for i in (1, 2, 3, 4)] == [10, 0, 0, 0]


def test_a_parent_outlives_its_children() -> None:
    pool = make_pool(30)
    run(pool, [0] * 10)
    run(pool, [0] * 10 + [1] * 10)
    run(pool, [0] * 10 + [2] * 10)
    run(pool, [3] * 10)
    assert [pool.tree.match(ids(*[0] * 10, *[i] * 10)).length for i in (1, 2)] == [10, 20]
    run(pool, [4] * 10)
    assert pool.tree.match(ids(*[0] * 10, *[2] * 10)).length == 10
    run(pool, [5] * 30)
    assert pool.tree.match(ids(0)).length == 0
    assert pool.num_evicted == 5


def test_what_is_held_is_never_evicted() -> None:
    pool = make_pool(40)
    run(pool, [1] * 20)
    holder = Client(pool, [1] * 10 + [2])
    assert holder.match() == 10
    other = Client(pool, [3] * 21)
    with pytest.raises(OutOfKV) as caught:
        other.compute()
    token = pool.shape.bytes_per_token
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (21 * token, 20 * token)
    holder.compute()
    holder.read()
    pool.check([holder.kv, other.kv])


def test_a_refused_allocation_evicts_nothing() -> None:
    pool = make_pool(40)
    held = Client(pool, [1] * 20)
    held.compute(room=0)
    run_quick(pool, [2] * 20)
    with pytest.raises(OutOfKV):
        Client(pool, [3] * 21).compute(room=0)
    assert pool.tree.match(ids(*[2] * 20)).length == 20


def test_a_search_among_many_equal_beginnings_tries_the_right_child_only() -> None:
    pool = make_pool(300_000, min_match=16)
    rng = np.random.default_rng(0)
    prompts = [[0, 1, 2, *rng.integers(3, 99, 20).tolist()] for _ in range(300)]
    for prompt in prompts:
        run_quick(pool, prompt)
    assert all(len(group) == 1 for group in pool.tree.root.children.values())
    assert all(pool.tree.match(ids(*prompt)).length == 23 for prompt in prompts)


def run_quick(pool: SegmentPool, tokens: list[int]) -> None:
    kv, array = SequenceKV(pool), ids(*tokens)
    kv.match(array[:-1])
    kv.reserve(len(tokens), array, hint=len(tokens))
    kv.mark_computed(len(tokens))
    kv.release()


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_prefix_is_found_with_min_match_1(seed: int) -> None:
    rng = random.Random(seed)
    pool = make_pool(5000)
    texts = [[rng.randrange(2) for _ in range(12)] for _ in range(40)]
    for text in texts:
        run_quick(pool, text)
    for _ in range(100):
        text = [rng.randrange(2) for _ in range(14)]
        assert pool.tree.match(ids(*text)).length == longest(pool, text)
