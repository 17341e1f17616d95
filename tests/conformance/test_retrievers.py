"""What every retriever must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chunkwise.pipeline.recutting import StoreCut
from chunkwise.rag.retrieval import Retriever, retrievers
from chunkwise.store import Store
from chunkwise.types import Filter, Query
from tests.fakes import CharCounter, HashedContinuations, SimpleSegmenter
from tests.rag.retrieval.test_bm25 import texts
from tests.store.corpora import EMBEDDER, create, prepared

LINES = texts(300)
QUESTIONS = ["", " ", "?", "w3x", "w1x w2x w7x", LINES[5], '"NEAR(*', "水", "\x00", "w0x " * 500]


def build(name: str, store: Store) -> Retriever:
    """A retriever of that name, with the parts that it declares."""
    fields = retrievers.options(name)
    others = {n: build(n, store) for n in ("bm25", "dense") if n in fields}
    if "base" in fields:
        others["base"] = build("hybrid", store)
    return retrievers.build(
        name,
        store=store,
        embedder=EMBEDDER,
        model=HashedContinuations(),
        segmenter=SimpleSegmenter(),
        counter=CharCounter(),
        cut=StoreCut(store, CharCounter(), 1000),
        **others,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    batch = [prepared(f"d{n}", LINES[n::6], part=str(n % 2)) for n in range(6)]
    return create(tmp_path_factory.mktemp("c"), *batch, prepared("copy", LINES[:10]))


@pytest.mark.parametrize("name", retrievers.own)
def test_hits_are_few_sorted_distinct_and_true(store: Store, name: str) -> None:
    retriever = build(name, store)
    for question in QUESTIONS:
        for k in (1, 10, 1000):
            hits = retriever.search(Query(question), k)
            assert len(hits) <= k
            order = [(-hit.score, hit.chunk.id) for hit in hits]
            assert order == sorted(order)
            assert len({hit.chunk.id for hit in hits}) == len(hits)
            assert len({hit.content for hit in hits}) == len(hits)
            for hit in hits[:20]:
                places = [(hit.document, hit.chunk.span), *hit.copies]
                assert len(set(places)) == len(places)
                for document, span in places:
                    assert store.load(document).text[span.start : span.end] == hit.chunk.text


@pytest.mark.parametrize("name", retrievers.own)
def test_fewer_hits_are_the_first_of_more(store: Store, name: str) -> None:
    options: dict[str, Any] = {}
    retriever = build(name, store)
    for question in QUESTIONS:
        more = retriever.search(Query(question), 40, **options)
        for k in (1, 5, 39):
            assert retriever.search(Query(question), k) == more[:k]


@pytest.mark.parametrize("name", retrievers.own)
def test_a_filter_comes_before_ranking(store: Store, name: str) -> None:
    retriever = build(name, store)
    for filter in (Filter(paths=("d3",)), Filter(metadata={"part": "1"}), Filter(("copy",))):
        names = {info.name for info in store.documents(filter)}
        hits = retriever.search(Query("w0x w1x w2x w3x", filter), 8)
        assert len(hits) == 8
        for hit in hits:
            assert {hit.document, *(document for document, _ in hit.copies)} <= names
    assert retriever.search(Query("w3x", Filter(paths=("none",))), 5) == []


@pytest.mark.parametrize("name", retrievers.own)
def test_an_empty_corpus_has_no_hits(tmp_path: Path, name: str) -> None:
    with create(tmp_path) as store:
        assert build(name, store).search(Query("anything"), 5) == []
