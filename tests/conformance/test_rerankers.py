"""What every reranker must keep: a permutation, best first, earlier scores untouched."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chunkwise.rag.embedding import embedders
from chunkwise.rag.reranking import Reranker, rerankers
from chunkwise.types import Chunk, Hit, Query, Span, content_id


class WordEmbedder:
    """Token vectors of words by feature hashing: a real late-interaction model, without torch."""

    def __init__(self) -> None:
        self.hashing = embedders.build("hashing")

    def token_vectors(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> list[NDArray[np.float32]]:
        return [self.hashing.embed(text.split(), kind) for text in texts]


@functools.cache
def build(name: str) -> Reranker:
    return rerankers.build(name, embedder=WordEmbedder())


def hit(text: str, score: float = 0.0, **scores: float) -> Hit:
    chunk = Chunk(content_id(text), text, Span(0, len(text)), len(text.split()))
    return Hit(chunk, score, "doc.txt", scores=scores)


pytestmark = pytest.mark.parametrize("name", rerankers.own)


def key(found: Hit) -> Any:
    return found.chunk.text, found.document, found.version, found.content


@settings(deadline=None, max_examples=25)
@given(question=st.text(max_size=40), texts=st.lists(st.text(max_size=40), max_size=45))
def test_the_result_is_a_permutation_best_first(name: str, question: str, texts: list[str]) -> None:
    hits = [hit(text, 1.0 - i / 100, dense=float(i)) for i, text in enumerate(texts)]
    made = build(name).rerank(Query(question), hits)
    assert sorted(map(key, made)) == sorted(map(key, hits))
    scores = [found.score for found in made]
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite(scores).all()
    assert sorted(found.scores["dense"] for found in made) == list(map(float, range(len(texts))))


def test_hits_given_are_not_changed(name: str) -> None:
    hits = [hit("the cat sat", 2.0, bm25=1.0), hit("a dog ran", 1.0, bm25=2.0)]
    build(name).rerank(Query("dog"), hits)
    assert [(found.score, dict(found.scores)) for found in hits] == [
        (2.0, {"bm25": 1.0}),
        (1.0, {"bm25": 2.0}),
    ]


def test_no_hits_stay_no_hits(name: str) -> None:
    assert build(name).rerank(Query("anything"), []) == []


def test_the_passage_that_answers_rises(name: str) -> None:
    texts = [f"filler passage about topic {i}" for i in range(6)] + ["interest rates of the bank"]
    random.Random(0).shuffle(texts)
    hits = [hit(text, -float(i)) for i, text in enumerate(texts)]
    made = [found.chunk.text for found in build(name).rerank(Query("bank interest rates"), hits)]
    assert made.index("interest rates of the bank") <= texts.index("interest rates of the bank")
