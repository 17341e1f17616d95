"""`MMRSelector`: `top_k` at diversity 0, something new before more of the same above."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.selection.mmr import MMRSelector
from chunkwise.rag.selection.top_k import TopKSelector
from chunkwise.types import Budget, Hit, Query
from tests.fakes import make_hit

QUERY = Query("?")


def cost(hit: Hit) -> int:
    return hit.chunk.tokens


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(alphabet="abc ", max_size=30), max_size=8), st.integers(0, 30))
def test_without_diversity_it_is_top_k(texts: list[str], tokens: int) -> None:
    hits = [make_hit(text, document=str(i)) for i, text in enumerate(texts)]
    budget = Budget(tokens, 5)
    same = MMRSelector(cost, diversity=0.0).select(QUERY, hits, budget)
    assert same == TopKSelector(cost).select(QUERY, hits, budget)


def test_something_new_comes_before_more_of_the_same() -> None:
    hits = [
        make_hit("The rent is due on the first day of the month."),
        make_hit("The rent is due by the first day of a month."),
        make_hit("Cats and dogs need written consent."),
    ]
    chosen = MMRSelector(cost, diversity=0.5).select(QUERY, hits, Budget(passages=2))
    assert chosen == [hits[0], hits[2]]


def test_wrong_options_are_errors() -> None:
    with pytest.raises(ConfigError, match="diversity"):
        MMRSelector(cost, diversity=2)
    with pytest.raises(ConfigError, match="min_containment"):
        MMRSelector(cost, min_containment=0)
