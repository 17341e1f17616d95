"""`CostAwareSelector`: what is read already leaves room for more."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.selection.cost_aware import CostAwareSelector
from chunkwise.rag.selection.top_k import TopKSelector
from chunkwise.types import Budget, Hit, Query
from tests.fakes import make_hit

QUERY = Query("?")


def hits(count: int) -> list[Hit]:
    return [
        make_hit(f"w{i} " * 3 + f"x{i} y{i}", document=f"{9 - i}.txt", score=1 / (1 + i))
        for i in range(count)
    ]


def selector(
    prices: list[float], tokens: list[int] | None = None, **more: object
) -> CostAwareSelector:
    def number(hit: Hit) -> int:
        return 9 - int(hit.document[0])

    return CostAwareSelector(
        cost=lambda hit: 10 if tokens is None else tokens[number(hit)],
        price=lambda some: [prices[number(hit)] for hit in some],
        **more,  # type: ignore[arg-type]
    )


def test_cached_passages_leave_room_for_more() -> None:
    found, prices = hits(5), [400.0, 400.0, 5.0, 400.0, 5.0]
    chosen = selector(prices, budget_ms=410).select(QUERY, found, Budget())
    assert chosen == [found[0], found[2], found[4]]
    assert selector(prices, budget_ms=10).select(QUERY, found, Budget()) == [found[2], found[4]]
    assert selector(prices, budget_ms=1).select(QUERY, found, Budget()) == []


def test_without_a_limit_it_chooses_as_top_k() -> None:
    found, budget = hits(6), Budget(tokens=45, passages=8)
    same = TopKSelector(cost=lambda hit: 10).select(QUERY, found, budget)
    assert selector([1e9] * 6).select(QUERY, found, budget) == same == found[:4]
    assert selector([1.0] * 6, budget_ms=100).select(QUERY, found, budget) == same


def test_for_reuse_equal_sets_are_equal_prompts() -> None:
    found = hits(4)
    chosen = [
        selector([1.0] * 4, order="reuse", min_containment=None).select(QUERY, some, Budget())
        for some in (found, found[::-1])
    ]
    assert chosen[0] == chosen[1] == found[::-1], "by document"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 60)), min_size=1, max_size=7),
    st.integers(1, 900),
    st.integers(1, 150),
    st.integers(1, 5),
)
def test_it_is_never_far_from_the_best_set(
    sizes: list[tuple[int, int]], ms: int, tokens: int, passages: int
) -> None:
    found, prices = hits(len(sizes)), [float(price) for price, _ in sizes]
    lengths = [length for _, length in sizes]
    chosen = selector(prices, lengths, budget_ms=ms).select(QUERY, found, Budget(tokens, passages))
    places = [found.index(hit) for hit in chosen]

    def fits(some: tuple[int, ...]) -> bool:
        return sum(prices[i] for i in some) <= ms and sum(lengths[i] for i in some) <= tokens

    def gain(some: list[int]) -> float:
        return sum(1 / (1 + i) for i in some)

    sets = [
        some
        for size in range(passages + 1)
        for some in itertools.combinations(range(len(found)), size)
        if fits(some)
    ]
    assert tuple(sorted(places)) in sets
    assert gain(places) >= 0.5 * max(gain(list(some)) for some in sets)


def test_wrong_options_are_named() -> None:
    for wrong in ({"budget_ms": -1}, {"order": "random"}, {"min_containment": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            selector([], **wrong)
