"""Exact search equals brute force; graphs come near; damage is said, not returned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from chunkwise.errors import ConfigError, IndexMismatchError, StoreError
from chunkwise.rag.embedding.hashing import HashingEmbedder
from chunkwise.rag.retrieval.dense import DenseRetriever
from chunkwise.store import Store, vectors
from chunkwise.types import Filter, Query, content_id
from tests.rag.retrieval.test_bm25 import texts
from tests.store.corpora import EMBEDDER, create, prepared, put


def brute_force(lines: list[str], question: str, k: int) -> list[str]:
    """The k nearest lines, ties by content id."""
    vector = EMBEDDER.embed([question], "query")[0]
    scores = EMBEDDER.embed(lines) @ vector
    order = sorted(zip(-scores.round(6), map(content_id, lines), lines, strict=True))
    return [line for *_, line in order[:k]]


@pytest.mark.parametrize("segment_rows", [7, 64, 10_000])
def test_search_equals_brute_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_rows: int
) -> None:
    monkeypatch.setattr(vectors, "SEGMENT_ROWS", segment_rows)
    lines = texts(200)
    with create(tmp_path, *(prepared(f"{n}", lines[n::4]) for n in range(4))) as store:
        retriever = DenseRetriever(store, EMBEDDER)
        for question in lines[::20]:
            for k in (1, 5, 300):
                found = retriever.search(Query(question), k)
                assert [hit.chunk.text for hit in found] == brute_force(lines, question, k)
        store.remove(["0", "2"])
        left = lines[1::4] + lines[3::4]
        found = retriever.search(Query(lines[0]), 40)
        assert [hit.chunk.text for hit in found] == brute_force(left, lines[0], 40)
        assert store.check() == []


def test_mostly_dead_rows_starve_nothing(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", [f"ferry {n}" for n in range(600)])) as store:
        put(store, prepared("b", [f"train {n}" for n in range(10)]))
        store.remove(["a"])
        found = DenseRetriever(store, EMBEDDER).search(Query("ferry 1"), 10)
        assert len(found) == 10


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_a_filter_is_applied_before_ranking(tmp_path: Path, share: float) -> None:
    lines = texts(400)
    cut = int(share * len(lines))
    with create(tmp_path, prepared("keep", lines[:cut]), prepared("rest", lines[cut:])) as store:
        query = Query(lines[-1], Filter(paths=("keep",)))
        found = DenseRetriever(store, EMBEDDER).search(query, 5)
        assert [hit.chunk.text for hit in found] == brute_force(lines[:cut], lines[-1], 5)


def test_the_place_that_was_embedded_is_shown(tmp_path: Path) -> None:
    """The same text under two headings has two vectors; the nearer one names the place."""
    item = prepared("a", ["same", "same"])
    headings = [("Ferries",), ("Trains",)]
    chunks = [
        dataclasses.replace(c, headings=h) for c, h in zip(item.chunks, headings, strict=True)
    ]
    forms = [f"{h}\nsame" for (h,) in headings]
    item = dataclasses.replace(item, chunks=chunks, embed_ids=[content_id(f) for f in forms])
    made = dict(zip(item.embed_ids, EMBEDDER.embed(forms), strict=True))
    with Store.open(tmp_path, create=True) as store:
        store.replace([item], made, fingerprint=EMBEDDER.fingerprint)
        assert store.stats().contents == 1
        for form, heading in zip(forms, headings, strict=True):
            (hit,) = DenseRetriever(store, EMBEDDER).search(Query(form), 5)
            assert hit.chunk.headings == heading
            assert len(hit.copies) == 1


def test_another_embedder_is_refused(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x"])) as store:
        with pytest.raises(IndexMismatchError, match="chunkwise embed"):
            DenseRetriever(store, HashingEmbedder(dim=64)).search(Query("x"), 1)
        store.remove(["a"])
        assert DenseRetriever(store, HashingEmbedder(dim=64)).search(Query("x"), 1) == []


def test_damaged_vectors_are_said(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", texts(50))) as store:
        (matrix,) = store.matrices(EMBEDDER.fingerprint)
        damaged = matrix.array.copy()
        damaged[7, 3] = np.nan
        matrix.path.write_bytes(damaged.tobytes())
        with pytest.raises(StoreError, match=r"doctor --repair"):
            DenseRetriever(store, EMBEDDER).search(Query("x"), 1)


def test_a_graph_comes_near_and_new_rows_are_exact(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    lines = texts(1200, 2)
    with create(tmp_path, prepared("a", lines[:1000])) as store:
        retriever = DenseRetriever(store, EMBEDDER, ann_rows=0)
        assert retriever.build_graphs() == 1000
        put(store, prepared("b", lines[1000:]))
        exact = DenseRetriever(store, EMBEDDER, exact=True)
        shared = 0
        for question in lines[::24]:
            near = {hit.chunk.id for hit in retriever.search(Query(question), 10)}
            right = exact.search(Query(question), 10)
            assert right[0].chunk.id in near
            shared += len(near & {hit.chunk.id for hit in right})
        assert shared >= 0.95 * 10 * len(lines[::24])
        assert store.check() == []  # a graph is no stray file
        store.remove(["a"])
        store.compact()
        assert not list((tmp_path / "vectors").glob("*.usearch"))


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="ann_rows"):
        DenseRetriever(None, EMBEDDER, ann_rows=-1)  # type: ignore[arg-type]
