"""Span metrics: worked examples, and what must hold for any chunks and references."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.evaluation.base import Report, compare
from chunkwise.evaluation.spans import (
    Chunking,
    Compat,
    Place,
    Retrieved,
    SpanCase,
    SpanScores,
    best_iou,
    evaluate_spans,
    recall_at,
    score_spans,
)
from chunkwise.types import Span


def places(*ranges: tuple[int, int], document: str = "d") -> list[Place]:
    return [Place(document, Span(*each)) for each in ranges]


def scores(
    references: list[Place],
    retrieved: list[Place],
    chunks: list[Place],
    compat: Compat = "exact",
) -> SpanScores:
    return score_spans(references, retrieved, Chunking(chunks), compat=compat)


THIRDS = places((0, 15), (15, 30), (30, 45))


@pytest.mark.parametrize("compat", ["exact", "chroma"])
def test_both_modes_agree_where_nothing_overlaps_or_touches(compat: Compat) -> None:
    found = scores(places((10, 20)), [THIRDS[0], THIRDS[2]], THIRDS, compat)
    assert found.recall == 0.5
    assert found.precision == pytest.approx(5 / 30)
    assert found.iou == pytest.approx(5 / 35)
    assert found.precision_omega == pytest.approx(10 / 30)


def test_a_chunk_that_only_touches_is_no_hit() -> None:
    reference = places((15, 30))
    assert scores(reference, [], THIRDS).precision_omega == 1.0
    assert scores(reference, [], THIRDS, "chroma").precision_omega == pytest.approx(15 / 45)


def test_overlapping_chunks_count_once() -> None:
    chunks = places((0, 15), (5, 20))
    exact = scores(places((10, 20)), chunks, chunks)
    assert (exact.precision, exact.iou) == (0.5, 0.5)
    published = scores(places((10, 20)), chunks, chunks, "chroma")
    assert published.precision == published.iou == pytest.approx(10 / 30)


@pytest.mark.parametrize("compat", ["exact", "chroma"])
def test_nothing_retrieved_scores_nothing(compat: Compat) -> None:
    found = scores(places((10, 20)), [], THIRDS, compat)
    assert (found.recall, found.precision, found.iou) == (0.0, 0.0, 0.0)


def test_iou_may_exceed_precision_omega() -> None:
    chunks = places((0, 11), (11, 20))
    found = scores(places((10, 20)), [chunks[1]], chunks)
    assert found.iou == pytest.approx(0.9)
    assert found.precision_omega == pytest.approx(0.5)
    assert found.best_iou == pytest.approx(0.9)
    assert found.lost_by_chunking == pytest.approx(0.1)
    assert found.lost_by_retrieval == pytest.approx(0.0)


def test_a_whole_document_chunk_has_full_recall() -> None:
    whole = places((0, 100))
    found = scores(places((20, 30), (25, 40)), whole, whole)
    assert (found.recall, found.precision, found.iou) == (1.0, 0.2, 0.2)


def test_documents_are_kept_apart() -> None:
    other = places((10, 20), document="e")
    found = scores(places((10, 20)), other, [*THIRDS, *other])
    assert (found.recall, found.iou) == (0.0, 0.0)
    assert found.precision_omega == pytest.approx(10 / 30)


def test_references_without_characters_are_refused() -> None:
    with pytest.raises(ConfigError, match="no character"):
        scores(places((5, 5)), THIRDS, THIRDS)


SPANS = st.tuples(st.sampled_from("de"), st.integers(0, 40), st.integers(1, 20)).map(
    lambda x: Place(x[0], Span(x[1], x[1] + x[2]))
)


def tiling(cuts: set[int]) -> list[Place]:
    edges = [0, *sorted(cuts), 61]
    return [
        Place(document, Span(low, high))
        for document in "de"
        for low, high in itertools.pairwise(edges)
    ]


TILINGS = st.sets(st.integers(1, 60), max_size=12).map(tiling)


def iou_by_sets(references: list[Place], found: list[Place]) -> float:
    one = {(d, i) for d, span in references for i in range(*span)}
    other = {(d, i) for d, span in found for i in range(*span)}
    return len(one & other) / len(one | other)


@settings(deadline=None, max_examples=200)
@given(st.lists(SPANS, min_size=1, max_size=4), TILINGS, st.data())
def test_bounds_of_a_tiling(
    references: list[Place], chunks: list[Place], data: st.DataObject
) -> None:
    retrieved = data.draw(st.lists(st.sampled_from(chunks), max_size=8))
    found = scores(references, retrieved, chunks)
    assert 0 <= found.iou <= min(found.precision, found.recall)
    assert found.iou <= found.best_iou + 1e-12
    assert found.iou == pytest.approx(iou_by_sets(references, retrieved))
    if found.recall == 1:
        assert found.iou <= found.precision_omega + 1e-12
    again = scores(references[::-1], [*retrieved[::-1], *retrieved], chunks[::-1])
    assert again == found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(SPANS, min_size=1, max_size=3),
    st.lists(SPANS, max_size=7, unique=True) | st.sets(st.integers(1, 60), max_size=2).map(tiling),
)
def test_best_iou_is_that_of_the_best_subset(references: list[Place], chunks: list[Place]) -> None:
    subsets = itertools.chain.from_iterable(
        itertools.combinations(chunks, n) for n in range(1, len(chunks) + 1)
    )
    expected = max((iou_by_sets(references, list(subset)) for subset in subsets), default=0.0)
    assert best_iou(references, chunks) == pytest.approx(expected)


def test_best_iou_of_many_overlapping_chunks_is_no_worse_than_one_of_them() -> None:
    chunks = places(*((start, start + 10) for start in range(0, 40, 2)))
    references = places((3, 33))
    single = max(iou_by_sets(references, [chunk]) for chunk in chunks)
    assert single < best_iou(references, chunks) <= 1


def test_recall_at_a_budget_takes_whole_chunks_in_order() -> None:
    ranked = [Retrieved(place, 100) for place in THIRDS]
    reference = places((0, 45))
    assert recall_at(reference, ranked, budget=99) == 0
    assert recall_at(reference, ranked, budget=250) == pytest.approx(30 / 45)
    assert recall_at(reference, ranked, budget=300) == 1


def test_evaluates_question_by_question() -> None:
    cases = [SpanCase("a", tuple(places((0, 15)))), SpanCase("b", tuple(places((30, 45))))]
    ranked = [Retrieved(place, 10) for place in THIRDS]
    report = evaluate_spans("first", cases, lambda _, k: ranked[:k], THIRDS, k=1, budgets=(10, 30))
    assert [row["recall"] for row in report.rows] == [1.0, 0.0]
    assert report.means()["iou"] == 0.5
    assert report.means()["recall_at_30"] == 1.0


def test_compares_reports_of_the_same_questions_only() -> None:
    one = Report("one", [{"x": 1.0}, {"x": 2.0}])
    two = Report("two", [{"x": 0.0}, {"x": 1.0}])
    assert compare(one, two, resamples=50)["x"] == (1.0, 1.0, 1.0)
    with pytest.raises(ConfigError, match="same questions"):
        compare(one, Report("short", [{"x": 1.0}]))
