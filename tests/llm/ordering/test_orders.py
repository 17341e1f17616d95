"""Every queue order found by its file name keeps the protocol."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.llm.kv.segments import KVShape, SegmentPool, SequenceKV
from chunkwise.llm.local import LLM
from chunkwise.llm.ordering import orders
from chunkwise.llm.queues import Queues
from chunkwise.llm.scheduling import StepBudget, policies
from chunkwise.llm.sequence import Request, Sequence, TokenSegment
from chunkwise.registry import Spec
from chunkwise.types import SamplingParams
from tests.llm.engines import alone, engine, greedy

POOL = SegmentPool(KVShape(1, 1, 1, torch.float32, torch.device("cpu")), 2**20)
TIGHT: Spec = {"name": "sharing", "max_overtaken": 2, "window": 3}

every_order = pytest.mark.parametrize("order", [*orders.own, TIGHT], ids=str)


class ChunkKV(SequenceKV):
    """One that may hold chunks."""

    holds_chunks = True


def sequence(
    arrival: int, *, priority: int = 0, chunks: str = "", prefix: int = 0, own: int = 40
) -> Sequence:
    """One with 100 tokens of a prefix by number, named chunks, and tokens of its own."""
    pieces = [TokenSegment((prefix,) * 100)] if prefix else []
    pieces += [TokenSegment((ord(name),) * 50, name) for name in chunks]
    pieces.append(TokenSegment((1000 + arrival,) * own))
    request = Request(str(arrival), tuple(pieces), SamplingParams(), priority, arrival=arrival)
    ids = request.prompt_ids.astype(np.int32)
    kv = ChunkKV(POOL) if chunks else SequenceKV(POOL)
    return Sequence(request, 0, ids, len(ids), np.arange(len(ids), dtype=np.int32), kv)


@st.composite
def loads(draw: st.DrawFn) -> tuple[list[Sequence], list[Sequence]]:
    """Running and waiting; some of the waiting have run before."""
    kinds = st.tuples(st.integers(0, 1), st.text("abc", max_size=2), st.integers(0, 2))
    made, most = [], {0: 2, 1: 2}
    for i, (priority, chunks, prefix) in enumerate(draw(st.lists(kinds, min_size=1, max_size=12))):
        made.append(sequence(i, priority=priority, chunks=chunks, prefix=prefix))
        # Whoever overtakes one has overtaken those before it too.
        most[priority] = made[-1].overtaken = draw(st.integers(0, most[priority]))
    made = draw(st.permutations(made))
    split = draw(st.integers(0, len(made)))
    admitted = made[: draw(st.integers(split, len(made)))]
    for turn, one in enumerate(admitted):
        one.request.turn = turn
    return made[:split], sorted(made[split:], key=Sequence.urgency)


@every_order
@settings(deadline=None, max_examples=60)
@given(load=loads(), count=st.integers(1, 12))
def test_an_order_agrees_with_the_rank_and_leaves_nobody_out(
    order: Spec, load: tuple[list[Sequence], list[Sequence]], count: int
) -> None:
    running, waiting = load
    before = [*running], [*waiting]
    found = orders.build(order).first(running, waiting, count)
    assert (running, waiting) == before
    assert len(found) == len(set(found)) == min(count, len(waiting))
    assert set(found) <= set(waiting)
    ranks = [one.rank() for one in found]
    assert ranks == sorted(ranks)
    assert ranks == [one.rank() for one in waiting[: len(found)]], "a less urgent one instead"
    assert orders.build(order).first(running, waiting, len(waiting))[: len(found)] == found


@settings(deadline=None, max_examples=60)
@given(load=loads(), count=st.integers(1, 12))
def test_nobody_is_overtaken_more_often_than_set(
    load: tuple[list[Sequence], list[Sequence]], count: int
) -> None:
    running, waiting = load
    found = orders.build({"name": "sharing", "max_overtaken": 2}).first(running, waiting, count)
    for one in (s for s in waiting if s.request.turn == float("inf")):
        ahead = found[: found.index(one)] if one in found else found
        later = [s for s in ahead if s.rank() == one.rank() and s.urgency() > one.urgency()]
        assert not later or one.overtaken + len(later) <= 2


def test_those_that_share_with_what_runs_go_next_then_those_that_share_with_the_oldest() -> None:
    running = [sequence(0, chunks="ab")]
    waiting = [
        oldest := sequence(1, prefix=7),
        other := sequence(2, chunks="x"),
        one_chunk := sequence(3, chunks="xb"),
        like_oldest := sequence(4, prefix=7),
        two_chunks := sequence(5, chunks="ba"),
        nothing := sequence(6),
    ]
    found = orders.build("sharing").first(running, waiting, 6)
    assert found == [two_chunks, one_chunk, oldest, like_oldest, other, nothing]


def test_chunks_count_only_where_they_are_reused() -> None:
    running, waiting = [sequence(0, chunks="ab")], [sequence(1), sequence(2, chunks="ca")]
    waiting[1].kv = SequenceKV(POOL)
    assert orders.build("sharing").first(running, waiting, 2) == waiting


@pytest.mark.parametrize("option", [{"max_overtaken": -1}, {"window": 0}])
def test_wrong_options_are_named(option: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        orders.build({"name": "sharing", **option})


@every_order
@pytest.mark.parametrize("bound", [None, 0, 3])
def test_in_the_queue_nobody_is_overtaken_more_often_than_set(
    order: Spec, bound: int | None
) -> None:
    """Sharers keep coming; those that share nothing get their turn all the same."""
    if bound is not None:
        order = {"name": "sharing", "max_overtaken": bound}
    pool = SegmentPool(POOL.shape, 2**20)
    queues = Queues(pool, policies.build("stall_free"), orders.build(order), StepBudget(400, 4))
    rng, seen = random.Random(0), []
    for arrival in range(60):
        one = sequence(arrival, prefix=rng.choice([0, 5, 5, 5]))
        one.kv = SequenceKV(pool)
        queues.add(one)
        seen.append(one)
        if arrival % 2:
            admit_and_end(queues)
    while queues.waiting or queues.running:
        admit_and_end(queues)
    most = {"arrival": 0, "sharing": 32}.get(str(order), 2) if bound is None else bound
    assert max(one.overtaken for one in seen) <= most
    assert sorted(one.request.turn for one in seen) == [*range(60)]


def admit_and_end(queues: Queues) -> None:
    """A step in which prompts are computed, and the first that is ends."""
    slices, _ = queues.next_slices()
    for piece in slices:
        end = int(piece.sequence.pending[piece.tokens - 1]) + 1
        piece.sequence.pending = piece.sequence.pending[piece.tokens :]
        piece.sequence.kv.mark_computed(end)
    done = [one for one in queues.running if not len(one.pending)]
    for one in done[:1]:
        queues.remove(one)
    for one in done[1:]:
        one.append(1)


def test_a_few_thousand_waiting_cost_little() -> None:
    running = [sequence(i, prefix=i % 9 + 1, chunks="abc") for i in range(64)]
    waiting = [sequence(100 + i, prefix=i % 9 + 1, chunks="cd") for i in range(5000)]
    order = orders.build("sharing")
    order.first(running, waiting, 64)
    began = time.perf_counter()
    order.first(running, waiting, 64)
    assert time.perf_counter() - began < 0.05, "a step takes about as long"


@every_order
def test_tokens_are_those_of_each_alone(tiny_llama: Path, oracle: LLM, order: Spec) -> None:
    rng = random.Random(3)
    heads = [[rng.randrange(256) for _ in range(40)] for _ in range(3)]
    asked = [rng.choice(heads) + [rng.randrange(256) for _ in range(9)] for _ in range(12)]
    llm = engine(tiny_llama, tokens=150, max_sequences=3, order=order)
    found = [output.token_ids for output in llm.generate(asked, greedy(6))]
    assert found == alone(oracle, asked, greedy(6))


def test_sharers_that_wait_together_find_their_prefix_in_the_cache(tiny_llama: Path) -> None:
    rng = random.Random(4)
    heads = [[rng.randrange(256) for _ in range(60)] for _ in range(4)]
    asked = [heads[i % 4] + [rng.randrange(256) for _ in range(8)] for i in range(24)]
    rows = {}
    for order in orders.own:
        llm = engine(tiny_llama, tokens=150, max_sequences=2, order=order)
        llm.generate(asked, [greedy(2 + i % 3) for i in range(24)])
        rows[order] = llm.engine.num_rows
    assert rows["sharing"] < 0.6 * rows["arrival"]


def test_what_lost_its_memory_keeps_its_place(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, tokens=100, max_sequences=2)
    first = llm.add([5] * 40, greedy(40))
    second = llm.add([6] * 30, greedy(30))
    third = llm.add([7] * 30, greedy(1))
    while not llm.engine.queues.preemptions:
        llm.step()
    waiting = [one.request.id for one in llm.engine.queues.waiting]
    assert waiting == [second, third]
    for request_id in (first, second, third):
        llm.close_request(request_id)
