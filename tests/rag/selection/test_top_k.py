"""`TopKSelector`: best first, hard budget, smaller ones may still fit."""

from __future__ import annotations

import pytest

from chunkwise.errors import ConfigError
from chunkwise.prompting import answer_prompt, passage_cost
from chunkwise.rag.selection import selectors
from chunkwise.rag.selection.top_k import TopKSelector
from chunkwise.types import Budget, Query
from tests.fakes import CharCounter, make_hit

QUERY = Query("?")


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{start + i}" for i in range(count))


def test_a_hit_that_does_not_fit_is_passed_over_and_a_smaller_one_fits() -> None:
    hits = [make_hit(words(60)), make_hit(words(90, 100)), make_hit(words(40, 200))]
    selector = TopKSelector(cost=lambda hit: hit.chunk.tokens)
    assert selector.select(QUERY, hits, Budget(tokens=100)) == [hits[0], hits[2]]
    assert selector.select(QUERY, hits, Budget(tokens=39)) == []
    assert selector.select(QUERY, hits, Budget(tokens=10_000, passages=2)) == hits[:2]


def test_duplicates_do_not_spend_budget_unless_told_so() -> None:
    text = words(50)
    hits = [make_hit(text, document="a"), make_hit(text, document="b"), make_hit(words(50, 90))]
    budget = Budget(tokens=100)
    folded = TopKSelector(cost=lambda hit: hit.chunk.tokens).select(QUERY, hits, budget)
    assert [hit.chunk.text for hit in folded] == [text, hits[2].chunk.text]
    plain = TopKSelector(cost=lambda hit: hit.chunk.tokens, min_containment=None)
    assert plain.select(QUERY, hits, budget) == hits[:2]


def test_the_passages_as_sent_stay_within_the_budget_counted_on_the_whole_form() -> None:
    hits = [make_hit(words(20, 40 * i), headings=("H" * 50,), header="|a|b|") for i in range(9)]
    selector = TopKSelector(cost=passage_cost(CharCounter()))
    chosen = selector.select(QUERY, hits, Budget(tokens=700))
    assert chosen
    sent = answer_prompt("?", chosen).segments[1:-1]
    assert sum(len(segment.text) for segment in sent) <= 700


def test_a_wrong_share_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"min_containment.*1\.5"):
        selectors.build({"name": "top_k", "min_containment": 1.5}, cost=len)
