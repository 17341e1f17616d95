"""Fusion by ranks, its identity settings, and its order."""

from __future__ import annotations

from pathlib import Path

import pytest

from chunkwise.errors import ConfigError
from chunkwise.rag.retrieval.bm25 import BM25Retriever
from chunkwise.rag.retrieval.dense import DenseRetriever
from chunkwise.rag.retrieval.fusion import reciprocal_ranks
from chunkwise.rag.retrieval.hybrid import HybridRetriever
from chunkwise.types import Query
from tests.fakes import make_hit
from tests.rag.retrieval.test_bm25 import texts
from tests.store.corpora import EMBEDDER, create, prepared


def test_reciprocal_ranks_add_up() -> None:
    a, b, c = (make_hit(text) for text in "abc")
    fused = reciprocal_ranks([[a, b], [b, c]])
    assert [hit.chunk.text for hit in fused] == ["b", "a", "c"]
    assert [hit.score for hit in fused] == [1 / 62 + 1 / 61, 1 / 61, 1 / 62]
    assert fused[0].scores["rrf"] == fused[0].score


def test_ties_go_by_content_id() -> None:
    hits = [make_hit(text) for text in "abcd"]
    fused = reciprocal_ranks([hits[:1], hits[1:2], hits[2:3], hits[3:]])
    assert [hit.chunk.id for hit in fused] == sorted(hit.chunk.id for hit in hits)


def test_a_weight_of_zero_leaves_the_other_ranking(tmp_path: Path) -> None:
    lines = texts(200)
    with create(tmp_path, prepared("a", lines)) as store:
        bm25, dense = BM25Retriever(store), DenseRetriever(store, EMBEDDER)
        query = Query(lines[3])
        for weights, alone in (((1.0, 0.0), bm25), ((0.0, 1.0), dense)):
            hybrid = HybridRetriever(
                store, bm25, dense, bm25_weight=weights[0], dense_weight=weights[1]
            )
            found = [hit.chunk.id for hit in hybrid.search(query, 20)]
            assert found == [hit.chunk.id for hit in alone.search(query, 20)]


def test_hits_carry_the_scores_of_both(tmp_path: Path) -> None:
    lines = texts(50)
    with create(tmp_path, prepared("a", lines)) as store:
        bm25, dense = BM25Retriever(store), DenseRetriever(store, EMBEDDER)
        (hit,) = HybridRetriever(store, bm25, dense).search(Query(lines[7]), 1)
        assert hit.chunk.text == lines[7]
        assert set(hit.scores) == {"bm25", "dense", "rrf"}


def test_options_are_checked() -> None:
    parts = (None, None, None)
    for options in ({"rrf_k": -1}, {"depth": 0}, {"bm25_weight": 0, "dense_weight": 0}):
        with pytest.raises(ConfigError):
            HybridRetriever(*parts, **options)  # type: ignore[arg-type]
