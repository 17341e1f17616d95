"""Every selector: a subset of its hits, within the budget, deterministic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.selection import selectors
from chunkwise.types import Budget, Hit, Query
from tests.fakes import CharCounter, HashingEmbedder, make_hit

HITS = st.lists(st.text(alphabet="abc \n漢9é", max_size=40), max_size=10)


def cost(hit: Hit) -> int:
    return len(hit.chunk.text) + 5


def places(hits: list[Hit]) -> list[tuple[str, int, int]]:
    return [(hit.document, *hit.chunk.span) for hit in hits]


@pytest.mark.parametrize("name", selectors.own)
@settings(deadline=None, max_examples=60)
@given(HITS, st.integers(0, 120), st.integers(0, 6))
def test_selection_is_a_subset_within_budget_and_repeatable(
    name: str, texts: list[str], tokens: int, passages: int
) -> None:
    selector = selectors.build(
        name,
        cost=cost,
        price=lambda hits: [float(cost(hit)) for hit in hits],
        counter=CharCounter(),
        embedder=HashingEmbedder(dim=256, is_weak=False),
    )
    hits = [make_hit(t, document=str(i), score=1 / (i + 1)) for i, t in enumerate(texts)]
    before = list(hits)
    chosen = selector.select(Query("a b"), hits, Budget(tokens, passages))
    assert sum(cost(hit) for hit in chosen) <= tokens
    assert len(chosen) <= passages
    assert set(places(chosen)) <= set(places(hits))
    assert len(set(places(chosen))) == len(chosen)
    assert chosen == selector.select(Query("a b"), hits, Budget(tokens, passages))
    assert hits == before
