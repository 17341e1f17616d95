"""Every scheduling policy found by its file name keeps the protocol."""

from __future__ import annotations

import copy
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.llm.local import LLM
from chunkwise.llm.scheduling import Slice, StepBudget, policies
from chunkwise.llm.sequence import Request, Sequence, TokenSegment
from chunkwise.types import SamplingParams
from tests.llm.engines import alone, engine, greedy

UNBOUNDED = {"prefill_first"}
"""Baselines that stand for systems without a limit on a step's rows; never a default."""

every_policy = pytest.mark.parametrize("name", policies.own)


def sequence(pending: int, priority: int, arrival: int) -> Sequence:
    """One with so many positions to compute, its KV left out: policies do not look at it."""
    segment = TokenSegment((1,) * (pending + 3))
    request = Request(str(arrival), (segment,), SamplingParams(), priority, arrival=arrival)
    positions = np.arange(3, pending + 3, dtype=np.int32)
    return Sequence(request, 0, request.prompt_ids, pending + 3, positions, None)  # type: ignore[arg-type]


@st.composite
def loads(draw: st.DrawFn) -> tuple[list[Sequence], list[Sequence], StepBudget]:
    """Running, waiting (in any order that agrees with the rank, as many as there is room for) and a
    budget. Of the waiting, some have run before."""
    lengths = st.one_of(st.just(1), st.integers(1, 40))
    kinds = st.lists(st.tuples(lengths, st.integers(0, 2)), min_size=1, max_size=12)
    made = [sequence(*kind, i) for i, kind in enumerate(draw(kinds))]
    made = draw(st.permutations(made))
    split = draw(st.integers(0, len(made)))
    admitted = made[: draw(st.integers(split, len(made)))]
    for turn, one in zip(draw(st.permutations(range(len(admitted)))), admitted, strict=True):
        one.request.turn = turn
    running, waiting = made[:split], sorted(made[split:], key=Sequence.rank)
    budget = StepBudget(draw(st.integers(1, 64)), draw(st.integers(1, 12)))
    return running, waiting[: max(budget.sequences - len(running), 0)], budget


@every_policy
@settings(deadline=None, max_examples=50)
@given(load=loads())
def test_slices_keep_the_budget_and_what_is_pending(
    name: str, load: tuple[list[Sequence], list[Sequence], StepBudget]
) -> None:
    running, waiting, budget = load
    slices = policies.build(name).pick(running, waiting, budget)
    assert bool(slices) == bool(running or waiting)
    chosen = [piece.sequence for piece in slices]
    assert len(set(map(id, chosen))) == len(chosen), "chosen twice"
    assert all(s in running or s in waiting for s in chosen)
    assert all(1 <= piece.tokens <= len(piece.sequence.pending) for piece in slices)
    if name not in UNBOUNDED:
        decodes = sum(len(s.pending) == 1 for s in running)
        floor = max(budget.tokens // 4, 1)
        assert sum(p.tokens for p in slices) <= max(budget.tokens, decodes + floor)


@every_policy
@settings(deadline=None, max_examples=50)
@given(load=loads())
def test_no_prompt_is_overtaken_against_the_order_given(
    name: str, load: tuple[list[Sequence], list[Sequence], StepBudget]
) -> None:
    running, waiting, budget = load
    shares = {p.sequence: p.tokens for p in policies.build(name).pick(running, waiting, budget)}
    prompts = [s for s in running if len(s.pending) > 1] + waiting
    prompts.sort(key=Sequence.rank)
    if name in UNBOUNDED:  # one position is no prompt there, and all prompts go
        prompts = [s for s in prompts if len(s.pending) > 1]
    for more, less in itertools.pairwise(prompts):
        assert less not in shares or shares.get(more) == len(more.pending)


@every_policy
@settings(deadline=None, max_examples=15)
@given(load=loads())
def test_choosing_changes_nothing(
    name: str, load: tuple[list[Sequence], list[Sequence], StepBudget]
) -> None:
    running, waiting, budget = load
    policy = policies.build(name)
    before = copy.deepcopy([vars_of(s) for s in [*running, *waiting]])
    order = [*running], [*waiting]
    first: list[Slice] = policy.pick(tuple(running), tuple(waiting), budget)
    assert policy.pick(running, waiting, budget) == first
    assert (running, waiting) == order
    for old, new in zip(before, [vars_of(s) for s in [*running, *waiting]], strict=True):
        assert str(old) == str(new)


@pytest.mark.parametrize("rows", [7, 100, 399])
def test_rows_over_reused_chunks_are_the_more_work_the_more_is_before_them(rows: int) -> None:
    plain, reusing = sequence(400, 0, 0), sequence(400, 0, 1)
    plain.pending, reusing.pending = plain.pending + 8000, reusing.pending + 8000
    reusing.num_reused_tokens = 4000
    tokens = reusing.within(rows)
    assert plain.within(rows) == plain.work(rows) == rows
    assert tokens == int(rows / 1.25)
    assert reusing.work(tokens) <= rows < reusing.work(tokens + 1)


def vars_of(sequence: Sequence) -> dict[str, object]:
    return {name: getattr(sequence, name) for name in Sequence.__slots__ if name != "request"}


@every_policy
@pytest.mark.parametrize("token_budget", [1, 16])
def test_nobody_starves_in_a_tiny_pool(
    tiny_llama: Path, oracle: LLM, name: str, token_budget: int
) -> None:
    rng = random.Random(token_budget)
    asked = [[rng.randrange(256)] * rng.randint(2, 20) for _ in range(5)]
    llm = engine(tiny_llama, tokens=40, token_budget=token_budget, max_sequences=4, policy=name)
    ids = [llm.add(p, greedy(12), priority=rng.randint(0, 1)) for p in asked]
    for _ in range(1000):
        if not llm.step():
            break
    else:
        pytest.fail("somebody still waits")
    found = [llm.close_request(request_id).token_ids for request_id in ids]
    assert found == alone(oracle, asked, greedy(12))


def test_an_urgent_prompt_does_not_wait_for_a_less_urgent_one(tiny_llama: Path) -> None:
    llm = engine(tiny_llama, token_budget=16)
    slow = llm.add([5] * 300, greedy(2), priority=1)
    llm.step()
    urgent = llm.add([6] * 30, greedy(1), priority=0)
    llm.step()
    llm.step()
    assert llm.engine.is_finished(urgent)
    assert not llm.engine.is_finished(slow)
